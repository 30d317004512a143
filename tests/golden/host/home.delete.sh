user=llmd-1a2b3c4d lineage=1a2b3c4d5e6f7a8b9c0d1e2f3a4b5c6d
lib=/var/lib/llmdeploy/support-chat-1a2b3c4d run=/run/llmdeploy/support-chat-1a2b3c4d log=/var/log/llmdeploy/support-chat-1a2b3c4d
mounted=$(awk -v below="$lib/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo)
if [ -n "$mounted" ]; then
    echo "still mounted: $mounted" >&2
    exit 1
fi
if [ "$(getent passwd "$user" | cut -d : -f 5)" = "llmdeploy $lineage" ]; then
    # A container on this machine may use the same number for a user of its own.
    uid=$(id -u "$user") here=$(readlink /proc/self/ns/pid)
    passes=0
    while pids=$(find /proc -mindepth 1 -maxdepth 1 -name '[0-9]*' -uid "$uid" 2>/dev/null | while read -r entry; do
        [ "$(readlink "$entry/ns/pid")" != "$here" ] || grep -q '^State:[[:space:]]*Z' "$entry/status" 2>/dev/null ||
            echo "${entry#/proc/}"
    done) && [ -n "$pids" ] && [ "$passes" -lt 100 ]; do
        # shellcheck disable=SC2086 # several numbers
        kill -KILL $pids 2>/dev/null || :
        passes=$((passes + 1))
        sleep 0.1
    done
    find /tmp /var/tmp /dev/shm -xdev -user "$uid" -delete 2>/dev/null || :
    userdel "$user" 9>&-
fi
rm -rf --one-file-system "$run" "$log" "$lib"
