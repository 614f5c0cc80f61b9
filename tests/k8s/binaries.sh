#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Kubernetes' own programs, built once from Debian's source package (whose binary packages have the client
# alone) and kept under ${XDG_CACHE_HOME:-~/.cache}/lethe/kubernetes/<version>. Prints that folder.
#   kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl
# The first time takes some five minutes and 34 MB from Debian's mirror; later runs look and are done. Several
# may run at once: one builds, the others wait. Sources come from the mirrors that apt knows, in lists of their own:
# the system's are left alone.
set -euo pipefail

package=kubernetes version=1.20.2
recipe=$(sha256sum "$0" | cut -c1-8)     # another way to build is another folder
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lethe/kubernetes
to=$cache/$version-$recipe
programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)
reflect2=/usr/share/gocode/src/github.com/modern-go/reflect2

say() { printf 'kubernetes: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ -x "$to/kubectl" ]; then
  echo "$to"
  exit 0
fi
[ -x /usr/lib/go-1.19/bin/go ] || fail "no Go here: apt-get install golang-1.19-go"
[ -d $reflect2 ] || fail "apt-get install golang-github-modern-go-reflect2-dev"
command -v dpkg-source >/dev/null || fail "apt-get install dpkg-dev"

work=$(mktemp -d "$cache/work.XXXXXX")
log=$cache/build.log
trap 'rm -rf "$work"' EXIT
cd "$work"

fetch() {
  mkdir -p lists/partial
  apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' |
    sort -u | awk '$4 == "Debian" {print "deb-src", $1, $2, $3}' >sources.list
  local own=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$work/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
  apt-get "${own[@]}" update -q && apt-get "${own[@]}" source -q --download-only $package
}

unpack() {
  dpkg-source --no-check -x ./${package}_*.dsc "$src"
  # 1.0.1, which it brings, crashes with Go 1.18 and later
  rm -rf "$src/vendor/github.com/modern-go/reflect2"
  cp -r $reflect2 "$src/vendor/github.com/modern-go/reflect2"
}

# The package comes without what upstream's make generates. As upstream's: every package marked so.
openapi() {
  cd "$src"
  go build -o "$work/openapi-gen" k8s.io/kubernetes/vendor/k8s.io/kube-openapi/cmd/openapi-gen
  local from
  from=$(grep -rlE --include=*.go '^// \+k8s:openapi-gen=' pkg staging/src/k8s.io vendor/k8s.io/kube-openapi |
    xargs -n1 dirname | sort -u | grep -vE '/(testdata|testing|generators|sample-)' |
    sed 's,^staging/src/k8s.io,vendor/k8s.io,; s,^,k8s.io/kubernetes/,' | paste -sd,)
  "$work/openapi-gen" --logtostderr --go-header-file hack/boilerplate/boilerplate.generatego.txt \
    --output-base "$work/go/src" -O zz_generated.openapi -p k8s.io/kubernetes/pkg/generated/openapi \
    -r "$work/violations" -i "$from"
}

compile() {
  cd "$src"
  local from=("${programs[@]/#/k8s.io/kubernetes/cmd/}") v=k8s.io/component-base/version
  nice go build -tags providerless,dockerless -trimpath -o "$work/bin/" \
    -ldflags "-s -w -X $v.gitVersion=v$version -X $v.gitMajor=1 -X $v.gitMinor=20" "${from[@]}"
}

src=$work/go/src/k8s.io/kubernetes
export GOPATH=$work/go GOCACHE=$work/gocache GO111MODULE=off GOPROXY=off GOFLAGS='' CGO_ENABLED=0
export PATH=/usr/lib/go-1.19/bin:$PATH
mkdir -p "$work/go/src/k8s.io"
: >"$log"
for step in fetch unpack openapi compile; do
  say "$step$([ $step = compile ] && echo ' (some four minutes)')"
  set +e    # or -e would mean nothing inside
  ( set -e; $step ) >>"$log" 2>&1
  status=$?
  set -e
  [ $status = 0 ] || { tail -n 15 "$log" >&2; fail "$step failed; all of it: $log"; }
done
rm -rf "$cache"/[0-9]*
mv "$work/bin" "$to"
echo "$to"
