scan=/run/llmdeploy/support-chat-1a2b3c4d/services name=engine-0
sweep() (
    set +e
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
)

for folder in "$scan/$name" "$scan/.$name.gone"; do
    [ -d "$folder" ] || continue
    : >"$folder/down"
    : >"$folder/state/quick"
    if s6-svok "$folder"; then
        s6-svc -wD -T "$(($(cat "$folder/timeout-kill") + 60000))" -d "$folder" || : # what is left then is swept
    fi
    rm -f "$folder/state/quick"
done
sweep
