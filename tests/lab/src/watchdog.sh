# The watchdog of one test process: it reads what that process started, and when the pipe ends (the process is gone,
# however it went) it kills what is left, descendants included, and removes the folders.
#   add PID START   del PID   dir PATH
# START is the 22nd field of /proc/PID/stat: it tells a reused process id from the one that was meant.
trap '' INT TERM HUP

# field 4 (parent) and field 22 (start time) of a process; the command in field 2 may hold blanks and brackets
stat_of() {
  read -r line 2>/dev/null <"/proc/$1/stat" || return 1
  set -- ${line##*) }
  parent=$2 start=${20}
}

roots='' dirs=''
while read -r op first second; do
  case $op in
    add) roots="$roots $first:$second" ;;
    del) kept=''; for root in $roots; do [ "${root%%:*}" = "$first" ] || kept="$kept $root"; done; roots=$kept ;;
    dir) dirs="$dirs
$first" ;;
  esac
done

tree=' '
for root in $roots; do
  if stat_of "${root%%:*}" && [ "$start" = "${root##*:}" ]; then tree="$tree${root%%:*} "; fi
done
# Stopped processes start no children: when a pass finds nobody new, the tree is whole.
grown=1
while [ $grown = 1 ]; do
  grown=0
  for pid in $tree; do kill -STOP "$pid" 2>/dev/null; done
  for entry in /proc/[0-9]*; do
    pid=${entry#/proc/}
    case $tree in *" $pid "*) continue ;; esac
    stat_of "$pid" || continue
    case $tree in *" $parent "*) tree="$tree$pid "; grown=1 ;; esac
  done
done
for pid in $tree; do kill -KILL "$pid" 2>/dev/null; done

IFS='
'
for dir in $dirs; do rm -rf "$dir"; done
