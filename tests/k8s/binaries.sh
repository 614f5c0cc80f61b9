#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Kubernetes' own programs, built once from Debian's source package (whose binary packages have the client
# alone) and kept under ${XDG_CACHE_HOME:-~/.cache}/lethe/kubernetes/VERSION-RECIPE. Prints that folder.
#   binaries.sh plane   kube-apiserver kube-controller-manager kubectl: judges manifests
#   binaries.sh         kube-scheduler kubelet kube-proxy, too: what a cluster with nodes needs
# The first time takes some five minutes (plane: three), 34 MB from Debian's mirror, and 3 GB of disk (all: 4.5) until it is done; later
# runs look and are done. Several may run at once: one builds, the others wait. Sources come from the mirrors that apt
# knows, in lists of their own: the system's are left alone.
set -euo pipefail

package=kubernetes version=1.20.2
cache=${XDG_CACHE_HOME:-$HOME/.cache}/lethe/kubernetes
programs=(kube-apiserver kube-controller-manager kubectl)
case ${1:-} in
plane) ;;
'') programs+=(kube-scheduler kubelet kube-proxy) ;;
*) sed -n '5,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
reflect2=/usr/share/gocode/src/github.com/modern-go/reflect2
need_mb=$((1500 + 500 * ${#programs[@]}))

say() { printf 'kubernetes: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

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
  local v flags='-s -w'
  for v in component-base/version client-go/pkg/version; do
    v=k8s.io/kubernetes/vendor/k8s.io/$v
    flags+=" -X $v.gitVersion=v$version -X $v.gitMajor=1 -X $v.gitMinor=20 -X $v.gitTreeState=clean"
  done
  nice go build -tags providerless,dockerless -trimpath -o "$work/bin/" -ldflags "$flags" \
    "${missing[@]/#/k8s.io/kubernetes/cmd/}"
}

# Another way to build is another folder; other words about it are not.
recipe=$(declare -f unpack openapi compile | sha256sum | cut -c1-8)
to=$cache/$version-$recipe
mkdir -p "$cache" || fail "$cache cannot be made; XDG_CACHE_HOME names another place"
exec 9>"$cache/lock"
flock -n 9 || { say "another run builds them; waiting"; flock 9; }
missing=()
for program in "${programs[@]}"; do
  [ -x "$to/$program" ] || missing+=("$program")
done
if [ ${#missing[@]} = 0 ]; then
  touch "$to"      # used last: see below
  echo "$to"
  exit 0
fi
[ -x /usr/lib/go-1.19/bin/go ] && [ -d $reflect2 ] && command -v dpkg-source >/dev/null ||
  fail "what builds them is not installed: ./setup.sh check"
has_mb=$(df -m --output=avail "$cache" | tail -n 1)
[ "$has_mb" -ge $need_mb ] || fail "$cache has $((has_mb)) MB free, building needs $need_mb; XDG_CACHE_HOME names another place"

rm -rf "$cache"/work.*     # of one that was killed: we have the lock
work=$(mktemp -d "$cache/work.XXXXXX")
log=$cache/build.log
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
cd "$work"
src=$work/go/src/k8s.io/kubernetes
export GOPATH=$work/go GOCACHE=$work/gocache GOTMPDIR=$work GO111MODULE=off GOPROXY=off GOFLAGS='' CGO_ENABLED=0
export PATH=/usr/lib/go-1.19/bin:$PATH
mkdir -p "$work/go/src/k8s.io"
: >"$log"
began=$SECONDS
say "not built yet: ${missing[*]}; some minutes, once"
for step in fetch unpack openapi compile; do
  set +e    # or -e would mean nothing inside
  ( set -e; $step ) >>"$log" 2>&1 9>&-
  status=$?
  set -e
  say "$step: $((SECONDS - began)) s"
  [ $status = 0 ] && continue
  tail -n 15 "$log" >&2
  [ $step = fetch ] && fail "their source could not be fetched (above): no network, or no Debian mirror in apt's sources?"
  [ "$(df -m --output=avail "$cache" | tail -n 1)" -ge 50 ] || fail "$step failed: the disk of $cache is full"
  fail "$step failed (above); all of it: $log"
done
mkdir -p "$to"
mv "$work"/bin/* "$to"
touch "$to"
# Two recipes are kept, those used last: another tree of this machine may be at an older one.
ls -dt "$cache"/[0-9]*/ | tail -n +3 | xargs -r rm -rf
echo "$to"
