#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Checks views.pml and shm_sleep.pml with spin and prints a table.
#   run.sh small|full [--variant NAME]   all rows, or the one named
#   run.sh --trace NAME                  a short counterexample of a variant, in words
# The sound model must be clean and searched to the end; each variant must be
# caught; each REACH row must find what it names, or the rest proves nothing.
# Exit status 1: a row is not as it must be. SPIN_CPPFLAGS adds definitions.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 2
usage() { echo "usage: run.sh small|full [--variant NAME] | --trace NAME" >&2; exit 2; }
command -v spin >/dev/null || { echo "spin is not installed (Debian package spin)" >&2; exit 2; }

size='' only='' trace=''
while [ $# -gt 0 ]; do
  case $1 in
  small | full) size=$1 ;;
  --variant) [ $# -gt 1 ] || usage; only=$2; shift ;;
  --trace) [ $# -gt 1 ] || usage; trace=$2; size=small; shift ;;
  *) usage ;;
  esac
  shift
done
[ -n "$size" ] || usage

mkdir -p "$here/../../build" || exit 2
work=$(mktemp -d "$here/../../build/model.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
status=0 rows=0 model=views.pml

# definitions, options of gcc; leaves $work/pan. Where the search is over at once
# the compiler is what costs: those rows are built with -O1.
build() {
  cd "$work" || exit 2
  # shellcheck disable=SC2086 # several words each
  spin -a $1 ${SPIN_CPPFLAGS:-} "$here/$model" >spin.log 2>&1 &&
    gcc -w -DSAFETY -DNOREDUCE -DMEMLIM=2000 $2 -o pan pan.c >gcc.log 2>&1 && return
  cat spin.log gcc.log >&2
  exit 2
}

number() { sed -n "$1" "$work/log" | head -n 1; }

# what must come: clean, caught or reached; name; deepest search; definitions
row() {
  local must=$1 name=$2 deepest=$3 defs=$4 pan_defs=-O1 pan_options='' got errors rule
  [ -z "$only" ] || [ "$only" = "$name" ] || return
  rows=$((rows + 1))
  case $must in
  clean)
    pan_defs=-O2
    [ "$size" = small ] || { pan_defs='-O2 -DCOLLAPSE'; pan_options=-w25; }
    ;;
  caught) defs="$defs -D$name -DVISIBLE" ;;
  reached) defs="$defs -DREACH_$name" ;;
  esac
  build "$defs" "$pan_defs"
  # shellcheck disable=SC2086
  ./pan -E -m"$deepest" $pan_options >log 2>&1
  errors=$(number 's/.*errors: \([0-9]*\).*/\1/p')
  if [ "${errors:-none}" = none ]; then
    got=broken
  elif [ "$errors" -gt 0 ]; then
    got=caught
    [ "$must" = reached ] && got=reached
  elif grep -q 'max search depth too small\|Search not completed\|memory limit' log; then
    got=unfinished
  else
    got=clean
  fi
  rule=$(number 's/.*assertion violated.*(at depth \([0-9]*\)).*/\1/p')
  [ $got = $must ] || status=1
  printf '%-24s %-8s %-10s %6s %10s %7s\n' "$name" "$must" "$got" "${rule:--}" \
    "$(number 's/^ *\([0-9.e+]*\) states, stored.*/\1/p')" \
    "$(number 's/^pan: elapsed time \([0-9.e+-]*\) seconds/\1/p')"
  if [ $got != $must ]; then
    echo "    NOT AS IT MUST BE, with $defs"
    sed 's/^/    /' log | head -n 40
  fi
}

# The violations of variants are searched no deeper than they lie.
three='-DNODES=3 -DCRASHES=0 -DNO_JOINS'
definitions_of() {
  case $1 in
  NO_SEAL | NO_EPOCH_FENCE | ADOPT_OWN_TAIL) echo "$three" ;;
  PROOF_OF_LAST_ONLY) echo '-DNODES=3 -DNO_JOINS' ;;
  JOINER_SWAPS_ITSELF_IN | COMMIT_BY_ONE_VIEW | REREAD_IS_OUTCOME | READ_WHILE_CHANGE_OPEN) echo '-DMEMBERS=1' ;;
  *) echo '-DMEMBERS=2' ;;
  esac
}
variants='NO_WAIT NO_SEAL NO_EPOCH_FENCE LEASE_FROM_RECEIPT JOINER_SWAPS_ITSELF_IN NO_INCARNATIONS
  COMMIT_BY_ONE_VIEW REREAD_IS_OUTCOME READ_WHILE_CHANGE_OPEN ADOPT_OWN_TAIL PROOF_OF_LAST_ONLY
  PART_JOINER EMPTY_SERVICE'

if [ -n "$trace" ]; then
  case " $(echo $variants) " in *" $trace "*) ;; *)
    echo "no such variant; there are: $(echo $variants)" >&2; exit 2 ;;
  esac
  defs="$(definitions_of "$trace") -D$trace -DVISIBLE"
  build "$defs" '-O2 -DREACH'
  timeout 60 ./pan -E -i -m100 >log 2>&1 # each shorter trail replaces the last
  [ -f views.pml.trail ] || { echo "$trace: no counterexample" >&2; exit 1; }
  # shellcheck disable=SC2086
  spin -T -B -t -k "$work/views.pml.trail" $defs ${SPIN_CPPFLAGS:-} "$here/views.pml" >words 2>&1
  grep -v '^spin:\|^#processes' words
  broken=$(sed -n 's/^spin: .*views.pml:\([0-9]*\), Error: assertion violated.*/\1/p' words)
  [ -n "$broken" ] || exit 1
  echo "broken, line $broken of views.pml: $(sed -n "$broken{s/.*RULE: //;s/ \*\///;p}" "$here/views.pml")"
  exit 0
fi

printf '%-24s %-8s %-10s %6s %10s %7s\n' model must is depth states s
if [ "$size" = small ]; then
  row clean SOUND_TWO 100000 '-DMEMBERS=2'
  row clean SOUND_JOIN 100000 '-DMEMBERS=1'
  row clean SOUND_THREE 100000 '-DNODES=3 -DWRITES=1 -DCRASHES=0 -DMESSAGES=1'
else
  row clean SOUND_TWO_LEASE_2 1000000 '-DMEMBERS=2 -DLEASE=2 -DCRASHES=2'
  row clean SOUND_TWO_LONG 1000000 '-DMEMBERS=2 -DEPOCHS=4 -DWRITES=3'
  row clean SOUND_JOIN_LONG 1000000 '-DMEMBERS=1 -DEPOCHS=4 -DCRASHES=2'
  row clean SOUND_THREE_CRASH 1000000 '-DNODES=3 -DWRITES=1 -DMESSAGES=2 -DNO_JOINS'
  row clean SOUND_THREE_IN_ORDER 1000000 '-DNODES=3 -DMESSAGES=1'
  row clean SOUND_THREE_JOINS 1000000 '-DNODES=3 -DCRASHES=0 -DMESSAGES=2 -DWRITES=1'
fi
for v in $variants; do
  row caught "$v" 100 "$(definitions_of "$v")"
done
row reached TAKE_OVER 200 '-DMEMBERS=2'
row reached JOINED 200 '-DMEMBERS=1'
row reached REJOINED 200 '-DMEMBERS=2 -DEPOCHS=4'
row reached LOST 200 '-DMEMBERS=2'
row reached TWO_TOLD 200 '-DMEMBERS=2'
model=shm_sleep.pml
row clean SHM_SLEEP 100000 '-DFRAMES=5 -DCAPACITY=2'
row clean SHM_SLEEP_ONE 100000 '-DFRAMES=4 -DCAPACITY=1'
for v in NO_LOOK_AGAIN BELL_EMPTIED_LATE NO_ROOM_AGAIN PUBLISH_AFTER_LOOK WAITS_UNPUBLISHED; do
  row caught "$v" 1000 ''
done
[ $rows -gt 0 ] || { echo "no row is called $only" >&2; exit 2; }
exit $status
