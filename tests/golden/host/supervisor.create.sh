if [ -d /run/systemd/system ]; then
    printf 'kind\tsystemd\n'
    exit 0
fi
scan=/run/llmdeploy/support-chat-1a2b3c4d/services
command -v s6-svscan >/dev/null || {
    echo "this machine runs no systemd and has no s6" >&2
    exit 1
}
mkdir -p "$scan"

# --- the janitor, whole before s6 can see it
new=$scan/.llmdeploy-janitor.new
rm -rf "$new"
mkdir -p "$new"
cat >"$new/run" <<'LLMDEPLOY_END'
#!/bin/sh
# The pause is the process itself, so that nothing of it can be left behind; s6 starts it again afterwards.
exec >/dev/null 2>&1
# One that outlived a killed s6-supervise is still known by its folder.
if read -r old <pid && [ "$old" != $$ ] && [ "$(readlink "/proc/$old/cwd")" = "$PWD" ]; then
    kill "$old"
fi
echo $$ >pid
./sweep
exec sleep 3600
LLMDEPLOY_END
cat >"$new/sweep" <<'LLMDEPLOY_END'
#!/bin/sh
# Ends log files in time, so that no line grows older than its service's retention, and removes those that are too old.
scan=/run/llmdeploy/support-chat-1a2b3c4d/services logs=/var/log/llmdeploy/support-chat-1a2b3c4d messages=/run/llmdeploy/support-chat-1a2b3c4d/supervisor.log
[ "$(stat -c %s "$messages")" -lt 1048576 ] || : >"$messages"
for folder in "$scan"/*; do
    minutes=$(cat "$folder/data/retention_minutes" 2>/dev/null) || continue
    span=$((minutes / 30))
    [ "$span" -ge 60 ] || span=60
    stamp=$folder/state/log_ended
    if [ -z "$(find "$stamp" -mmin "-$span" 2>/dev/null)" ]; then
        s6-svc -a "$folder/log" && touch "$stamp"
    fi
    # A file's time is that of its last line; its first one is up to a span and one round of the janitor older.
    oldest=$((minutes - span - 120))
    [ "$oldest" -ge 60 ] || oldest=60
    find "$logs/${folder##*/}" -maxdepth 1 -name '@*' -mmin "+$oldest" -delete
done
LLMDEPLOY_END
chmod 0700 "$new/run" "$new/sweep"
mkdir -p "$scan/llmdeploy-janitor"
mv -f "$new/run" "$new/sweep" "$scan/llmdeploy-janitor/"
rmdir "$new"

if ! s6-svscanctl "$scan" 2>/dev/null; then
    # What a killed s6-svscan left behind goes on without it and would stand in the way of the next one.
    for folder in "$scan"/* "$scan"/*/log; do
        [ -d "$folder" ] || continue
        s6-svc -xd "$folder" 2>/dev/null || : # most are not there any more
    done
    for folder in "$scan"/* "$scan"/*/log; do
        [ -d "$folder" ] || continue
        waited=0
        while s6-svok "$folder" && [ "$waited" -lt 1200 ]; do
            waited=$((waited + 1))
            sleep 0.1
        done
    done
    setsid --fork env -i --default-signal PATH=/usr/sbin:/usr/bin:/sbin:/bin s6-svscan "$scan" </dev/null >>/run/llmdeploy/support-chat-1a2b3c4d/supervisor.log 2>&1 9>&-
    waited=0
    until s6-svscanctl "$scan" 2>/dev/null; do
        waited=$((waited + 1))
        [ "$waited" -lt 100 ] || {
            cat /run/llmdeploy/support-chat-1a2b3c4d/supervisor.log >&2
            exit 1
        }
        sleep 0.1
    done
fi
printf 'kind\ts6\n'
