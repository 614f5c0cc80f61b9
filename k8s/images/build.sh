#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Images of Lethe's programs, FROM scratch: the program, the libraries it loads, a passwd with one user. No shell,
# no package manager, nothing from a registry. README.md says who runs as whom.
#   build.sh [--build DIR] [--out DIR] [--tag TAG] [IMAGE...]
# For each: OUT/IMAGE.tar (an OCI archive: `ctr -n k8s.io images import`, `skopeo copy oci-archive:...`) and
# OUT/IMAGE.contents (every file with its SHA-256 and the Debian package it is of). Prints name, digest, bytes.
# The same programs and libraries give the same digest, whenever and wherever: times are fixed, names are sorted.
set -euo pipefail

# buildah wants / to be a mount; in a plain chroot it is none: there we run in one that is, for us alone.
if [ "$(id -u)" = 0 ] && ! mountpoint -q /; then
  root=$(mktemp -d) status=0
  unshare --mount --propagation unchanged bash -c '
    mount --rbind / "$0" && mount --make-rprivate "$0" && exec chroot "$0" bash -c "cd \"\$0\" && exec \"\$@\"" "$PWD" "$@"' \
    "$root" "$0" "$@" || status=$?
  rmdir "$root"
  exit $status
fi

here=$(cd "$(dirname "$0")" && pwd)
build=$here/../../build/release out='' tag=dev images=()
all=(lethe-store lethe-store-rdma lethe-nf lethe-nf-rdma lethe-steer lethe-controller lethe-cli lethe-etcd)

fail() { printf 'images: %s\n' "$*" >&2; exit 1; }
while [ $# -gt 0 ]; do
  case $1 in --build | --out | --tag) [ $# -gt 1 ] || fail "$1 needs a word behind it; build.sh --help" ;; esac
  case $1 in
  --build) build=$2; shift ;;
  --out) out=$2; shift ;;
  --tag) tag=$2; shift ;;
  -*) sed -n '3,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  *) images+=("$1") ;;
  esac
  shift
done
[ ${#images[@]} -gt 0 ] || images=("${all[@]}")
out=${out:-$build/images}
command -v buildah >/dev/null || fail "buildah is missing: ./setup.sh installs it"
[ "$(id -u)" = 0 ] || fail "file capabilities in an image need root: run me as root (sudo)"

work=$(mktemp -d)
containers=()
finish() {
  for c in "${containers[@]}"; do "${own[@]}" rm "$c" >/dev/null 2>&1 || :; done
  rm -rf "$work"
}
trap finish EXIT
# Storage of its own: what else buildah keeps on this machine is not touched, and no run meets another's.
own=(buildah --storage-driver vfs --root "$work/storage" --runroot "$work/runroot")
multiarch=$(gcc -print-multiarch 2>/dev/null || echo x86_64-linux-gnu)
mkdir -p "$out"

# program of an image, its user, its file capabilities, and what else it opens
describe() {
  user=10001 capabilities='' extra=() entry=/usr/bin/$1
  case $1 in
  lethe-store) program=$build/statestore/lethe-store ;;
  lethe-nf) program=$build/nf/lethe-nf capabilities=cap_net_raw,cap_net_admin,cap_ipc_lock=ep ;;
  lethe-store-rdma) program=$build/statestore/lethe-store extra=(rdma) capabilities=cap_ipc_lock=ep entry=/usr/bin/lethe-store ;;
  lethe-nf-rdma) program=$build/nf/lethe-nf extra=(rdma) capabilities=cap_net_raw,cap_net_admin,cap_ipc_lock=ep entry=/usr/bin/lethe-nf ;;
  lethe-steer) program=$build/steering/lethe-steer capabilities=cap_net_raw,cap_net_admin,cap_ipc_lock=ep ;;
  lethe-controller) program=$build/orchestrator/lethe-controller extra=(lethe) ;;
  lethe-cli) program=$build/orchestrator/cli/lethe entry=/usr/bin/lethe ;;
  lethe-etcd) program=$(command -v etcd || :) entry=/usr/bin/etcd ;;
  *) fail "there is no image $1; there are: ${all[*]}" ;;
  esac
  [ -x "$program" ] || fail "$1: ${program:-etcd} is not there; build it first: cmake --build --preset release"
}

put() { # file, path in the image
  install -D -m "$([ -x "$1" ] && echo 0755 || echo 0644)" "$1" "$root$2"
}

# Those the loader finds, by the names it looks for.
put_libraries() { # file...
  local name path
  while read -r name path; do
    [ -e "$root$name" ] || put "$path" "$name"
  done < <(for f in "$@"; do ldd "$f" 2>/dev/null || :; done | awk '
      $2 == "=>" && $3 ~ /^\// { n = split($1, part, "/"); print "/usr/lib/'"$multiarch"'/" part[n], $3 }
      $1 ~ /^\/lib64\/ld-linux/ { print $1, $1 }' | sort -u)
}

# So that `kubectl exec` beside the controller needs nothing.
put_lethe() {
  local program=$build/orchestrator/cli/lethe
  [ -x "$program" ] || fail "$program is not there; build it first: cmake --build --preset release"
  put "$program" /usr/bin/lethe
  strip --strip-unneeded "$root/usr/bin/lethe"
  put_libraries "$program"
}

# Providers of RDMA are opened by name, by what stands in libibverbs.d: those of the overlays.
put_rdma() {
  local p lib
  for p in mlx5 rxe; do
    lib=/usr/lib/$multiarch/libibverbs/lib$p-rdmav34.so
    [ -e "$lib" ] || fail "$lib is not there: apt-get install ibverbs-providers"
    put "/etc/libibverbs.d/$p.driver" "/etc/libibverbs.d/$p.driver"
    put "$lib" "$lib"
    put_libraries "$lib"
  done
}

# Paths are those of a merged /usr, as Debian has it.
stage() { # image
  root=$work/root
  rm -rf "$root"
  mkdir -p "$root"/{etc,tmp,usr/bin,usr/lib64,"usr/lib/$multiarch",run/lethe,var/lib/etcd}
  ln -s usr/lib "$root/lib"
  ln -s usr/lib64 "$root/lib64"
  put "$program" "$entry"
  strip --strip-unneeded "$root$entry" 2>/dev/null || :   # ours; others' may know better
  put_libraries "$program"
  local what
  for what in "${extra[@]}"; do "put_$what"; done
  printf 'root:x:0:0::/:/nonexistent\nlethe:x:%d:%d::/run/lethe:/nonexistent\n' $user $user >"$root/etc/passwd"
  printf 'root:x:0:\nlethe:x:%d:\n' $user >"$root/etc/group"
  printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
  chmod 1777 "$root/tmp"
  chown -R $user:$user "$root/run/lethe" "$root/var/lib/etcd"
  [ -z "$capabilities" ] || setcap "$capabilities" "$root$entry"
  [ "$1" = lethe-etcd ] && rm -rf "$root/run/lethe"
  find "$root" -exec touch -h -d @0 {} +
}

# "path package=version" of what is Debian's in an image; dpkg knows either spelling of a merged /usr.
owners() { # path...
  { dpkg -S "$@" "${@#/usr}" 2>/dev/null || :; } | sed -nE 's,^([a-z0-9.+-]+)[:,].* (/usr)?(/[^ ]*)$,/usr\3 \1,p' |
    sort -u -k1,1 >"$work/owned"
  cut -d' ' -f2 "$work/owned" | sort -u | xargs -r dpkg-query -W -f '${Package} ${Package}=${Version}\n' |
    awk 'NR == FNR { version[$1] = $2; next } { print $1, version[$2] }' - "$work/owned"
}

contents() { # image: a line per file
  local files inner
  mapfile -t files < <(cd "$root" && find . -type f | LC_ALL=C sort)
  inner=("${files[@]#.}")
  owners "${inner[@]}" >"$work/owners"
  (cd "$root" && paste -d' ' <(sha256sum "${files[@]}" | cut -c1-64) <(stat -c %s "${files[@]}") <(printf '%s\n' "${inner[@]}")) |
    awk -v own="$([ "$1" = lethe-etcd ] || echo "$entry")" 'NR == FNR { owner[$1] = $2; next } {
      ours = $3 == own || $3 !~ /^\/usr\//
      printf "%s  %8d  %-60s %s\n", $1, $2, $3, !ours && $3 in owner ? owner[$3] : "-" }' "$work/owners" -
}

assemble() { # image
  local c
  c=$("${own[@]}" from scratch)
  containers+=("$c")
  "${own[@]}" copy -q "$c" "$root" / >/dev/null
  "${own[@]}" config --created-by "k8s/images/build.sh" --user "$user:$user" --workingdir / \
    --entrypoint "[\"$entry\"]" --cmd '' --stop-signal SIGTERM \
    --label "org.opencontainers.image.title=$1" --label "org.opencontainers.image.licenses=BSD-3-Clause" "$c"
  "${own[@]}" commit -q --rm --timestamp 0 --format oci "$c" "localhost/$1:$tag" >/dev/null
  rm -f "$out/$1.tar"
  "${own[@]}" push -q "localhost/$1:$tag" "oci-archive:$out/$1.tar:localhost/$1:$tag"
}

for image in "${images[@]}"; do
  describe "$image"
  stage "$image"
  contents "$image" >"$out/$image.contents"
  assemble "$image"
  digest=$(tar -xOf "$out/$image.tar" index.json | python3 -c 'import json,sys; print(json.load(sys.stdin)["manifests"][0]["digest"])')
  printf '%-18s %s %9d\n' "$image" "$digest" "$(stat -c %s "$out/$image.tar")"
done
