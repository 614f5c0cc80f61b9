#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The Secret `lethe` in the namespace `lethe`, made once: the key of steering's probes and joins, what workers show the
# store, what stores show each other, what who gives the controller orders shows it. Prints the object; nothing is written to a file:
#   k8s/secrets.sh | kubectl create -f -
set -eu
command -v openssl >/dev/null || { echo "secrets: openssl is missing" >&2; exit 1; }
cat <<END
apiVersion: v1
kind: Secret
metadata: {name: lethe, namespace: lethe}
stringData:
  probe.key: "$(openssl rand -hex 16)"
  workers.secret: "$(openssl rand -hex 32)"
  replicas.secret: "$(openssl rand -hex 32)"
  controller.token: "$(openssl rand -hex 32)"
END
