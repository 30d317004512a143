scan=/run/llmdeploy/support-chat-1a2b3c4d/services name=engine-0 digest=5e114d635b0a096d29cce4c81053c8c330319627f9c6d5f49dc9e5baba639d08
folder=$scan/$name
s6-svscanctl "$scan" 2>/dev/null || {
    echo "the process supervisor is not running" >&2
    exit 1
}

# --- the definition, whole before s6 can see it
new=$scan/.$name.new
rm -rf "$new"
mkdir -p "$new/data" "$new/log" "$new/state"
cat >"$new/run" <<'LLMDEPLOY_END'
#!/bin/sh
# Started by s6-supervise in the service folder, again each time the process ended.
exec 2>&1
umask 077
./data/sweep || exit 111
read -r now _ </proc/uptime
echo "${now%%.*}" >state/started
starts=0
[ ! -s state/starts ] || read -r starts <state/starts
echo "$((starts + 1))" >state/starts
sh -eu ./data/pre_start </dev/null || {
    echo "llmdeploy: engine-0 was not started: its preparation failed with status $?"
    exit 111
}
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin unshare --uts --net -- /bin/sh ./data/start </dev/null
LLMDEPLOY_END
cat >"$new/finish" <<'LLMDEPLOY_END'
#!/bin/sh
# Runs after the process ended: $1 is its status, or 256 when signal $2 ended it. Pauses before the next start.
exec 2>&1
umask 077
./data/sweep
if [ -e state/quick ]; then
    rm -f state/quick state/failures
    exit 0
fi
[ "$(s6-svstat -o wantedup .)" = true ] || exit 0

read -r now _ </proc/uptime
read -r started <state/started
failures=0
if [ "$((${now%%.*} - started))" -lt 60 ]; then
    [ ! -s state/failures ] || read -r failures <state/failures
    failures=$((failures + 1))
fi
echo "$failures" >state/failures

pause_s=1
while [ "$failures" -gt 1 ] && [ "$pause_s" -lt 60 ]; do
    pause_s=$((pause_s * 2)) failures=$((failures - 1))
done
[ "$pause_s" -le 60 ] || pause_s=60
if [ "$1" = 256 ]; then reason="signal $2"; else reason="status $1"; fi
echo "llmdeploy: engine-0 ended with $reason; it is started again in $pause_s s"
while [ "$pause_s" -gt 0 ] && [ ! -e state/quick ] && [ "$(s6-svstat -o wantedup .)" = true ]; do
    sleep 1
    pause_s=$((pause_s - 1))
done
rm -f state/quick
exit 0
LLMDEPLOY_END
cat >"$new/down-signal" <<'LLMDEPLOY_END'
SIGTERM
LLMDEPLOY_END
cat >"$new/timeout-kill" <<'LLMDEPLOY_END'
30000
LLMDEPLOY_END
cat >"$new/timeout-finish" <<'LLMDEPLOY_END'
150000
LLMDEPLOY_END
cat >"$new/data/pre_start" <<'LLMDEPLOY_END'
mountpoint -q /var/lib/llmdeploy/support-chat-1a2b3c4d/volume
mkdir -p /run/llmdeploy/support-chat-1a2b3c4d/engine
LLMDEPLOY_END
cat >"$new/data/start" <<'LLMDEPLOY_END'
#!/bin/sh
# shellcheck disable=SC2016,SC1003 # environment and arguments are meant as they stand
# Becomes the process, inside its own namespaces.
set -eu
echo llmd-1a2b3c4d.engine-0 >/proc/sys/kernel/domainname
ip link set lo up
prlimit --pid $$ --core=0
prlimit --pid $$ --nofile=65536 2>/dev/null || prlimit --pid $$ --nofile="$(prlimit --pid $$ --nofile --output HARD --noheadings --raw)"
export HOME='/var/lib/a b'
export GREETING='it'"'"'s $HOME 100% \ "here"'
while IFS= read -r line; do
    # shellcheck disable=SC2163 # the line is NAME=value
    [ -z "$line" ] || export "$line"
done </var/lib/llmdeploy/support-chat-1a2b3c4d/engine.env
unset line
umask 077
cd /
unset PWD OLDPWD
exec setpriv --reuid=llmd-1a2b3c4d --regid=llmd-1a2b3c4d --init-groups --inh-caps=-all --bounding-set=-all --no-new-privs -- \
    '/opt/run time/bin/python' -m serve --model '$weights; rm -rf /' --share 50% 'it'"'"'s "quoted" \'
LLMDEPLOY_END
cat >"$new/data/sweep" <<'LLMDEPLOY_END'
#!/bin/sh
# Ends every process of the service: those whose UTS namespace carries its label.
label=llmd-1a2b3c4d.engine-0

members() {
    own=$(readlink /proc/self/ns/uts)
    ours='' other=''
    find /proc/[0-9]*/ns/uts -maxdepth 0 -printf '%l %p\n' 2>/dev/null | sort | while read -r space path; do
        if [ "$space" = "$own" ] || [ "$space" = "$other" ]; then
            continue
        fi
        if [ "$space" != "$ours" ]; then
            found=$(nsenter --uts="$path" cat /proc/sys/kernel/domainname 2>/dev/null) || continue
            if [ "$found" != "$label" ]; then
                other=$space
                continue
            fi
            ours=$space
        fi
        pid=${path#/proc/}
        echo "${pid%%/*}"
    done
}

passes=0
while pids=$(members) && [ -n "$pids" ]; do
    # shellcheck disable=SC2086 # several numbers
    kill -KILL $pids 2>/dev/null
    passes=$((passes + 1))
    if [ "$passes" -gt 200 ]; then
        # shellcheck disable=SC2086 # several numbers
        echo "llmdeploy: cannot end the processes" $pids >&2
        exit 1
    fi
    sleep 0.1
done
LLMDEPLOY_END
cat >"$new/data/retention_minutes" <<'LLMDEPLOY_END'
43200
LLMDEPLOY_END
cat >"$new/log/run" <<'LLMDEPLOY_END'
#!/bin/sh
# Lines are kept as they are; the janitor removes full files by age, s6-log by number and size.
umask 077
mkdir -p /var/log/llmdeploy/support-chat-1a2b3c4d/engine-0
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin s6-log -b -l 0 -- \
    n36 s10485760 S52428800 /var/log/llmdeploy/support-chat-1a2b3c4d/engine-0
LLMDEPLOY_END
chmod 0700 "$new/run" "$new/finish" "$new/data/sweep" "$new/log/run"
if [ -e "$folder" ]; then
    mv -f "$new/run" "$folder/run"
    mv -f "$new/finish" "$folder/finish"
    mv -f "$new/down-signal" "$folder/down-signal"
    mv -f "$new/timeout-kill" "$folder/timeout-kill"
    mv -f "$new/timeout-finish" "$folder/timeout-finish"
    mv -f "$new/data/pre_start" "$folder/data/pre_start"
    mv -f "$new/data/start" "$folder/data/start"
    mv -f "$new/data/sweep" "$folder/data/sweep"
    mv -f "$new/data/retention_minutes" "$folder/data/retention_minutes"
    mv -f "$new/log/run" "$folder/log/run"
    rm -rf "$new"
else
    : >"$new/down"
    mv "$new" "$folder"
fi

# --- s6 knows it
waited=0
until s6-svok "$folder" && s6-svok "$folder/log"; do
    [ "$waited" -ne 0 ] || s6-svscanctl -a "$scan"
    waited=$((waited + 1))
    [ "$waited" -lt 300 ] || {
        echo "the process supervisor does not take $name up" >&2
        exit 1
    }
    sleep 0.1
done

# --- it runs as defined
applied=$(cat "$folder/state/applied" 2>/dev/null) || :
if [ "$applied" != "$digest" ] || [ -e "$folder/down" ] || [ "$(s6-svstat -o up,wantedup "$folder")" != "true true" ]; then
    rm -f "$folder/state/applied" "$folder/state/failures" "$folder/state/starts"
    : >"$folder/state/quick"
    s6-svc -wD -T "$(($(cat "$folder/timeout-kill") + 60000))" -d "$folder"
    rm -f "$folder/state/quick" "$folder/down"
    # The logger takes its new settings at its next start; what the service writes meanwhile waits in the pipe.
    s6-svc -r "$folder/log"
    s6-svc -wu -T 60000 -u "$folder"
    echo "$digest" >"$folder/state/applied"
fi
