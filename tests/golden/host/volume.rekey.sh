# Makes and unlocks the encrypted volume. The key is the first line of standard input, the key before it the second.
IFS= read -r key
IFS= read -r old_key
backing=/var/lib/llmdeploy/support-chat-1a2b3c4d/volume.enc mount=/var/lib/llmdeploy/support-chat-1a2b3c4d/volume messages=/run/llmdeploy/support-chat-1a2b3c4d/volume.log

scope=''
gocryptfs_clean() { # nothing of this shell's environment or descriptors goes along
    # shellcheck disable=SC2086 # several words
    $scope env -i --default-signal PATH=/usr/sbin:/usr/bin:/sbin:/bin prlimit --core=0 gocryptfs -q "$@" 9>&-
}

if [ ! -e "$backing/fs/gocryptfs.conf" ]; then
    if [ -n "$(ls -A "$backing/fs" 2>/dev/null)" ]; then
        exit 74
    fi
    mkdir -p "$backing"
    rm -rf "$backing/new" "$backing/fs"
    mkdir "$backing/new"
    printf '%s\n' "$key" | gocryptfs_clean -init "$backing/new" >/dev/null
    sync "$backing/new/gocryptfs.conf" "$backing/new/gocryptfs.diriv" "$backing/new"
    mv "$backing/new" "$backing/fs"
    sync "$backing"
fi

change_key() { printf '%s\n%s\n' "$1" "$key" | gocryptfs_clean -passwd "$backing/fs" >/dev/null 2>&1; }
# A try that was interrupted after the change finds the old key refused and the new one in place.
change_key "$old_key" || change_key "$key" || exit 12
unset old_key

is_mounted() { awk -v path="$mount" '$5 == path { found = 1 } END { exit !found }' /proc/self/mountinfo; }

while is_mounted && ! timeout 20 stat -t "$mount/." >/dev/null 2>&1; do
    umount -l "$mount"
done
if ! is_mounted; then
    mkdir -p "$mount"
    chmod 0700 "$mount"
    [ -z "$(ls -A "$mount")" ] || exit 75
    if [ -d /run/systemd/system ]; then
        # In the caller's cgroup it would end with the login or the service that this runs in.
        systemctl stop llmdeploy-support-chat-1a2b3c4d-volume.scope 2>/dev/null || :
        scope='systemd-run --quiet --scope --collect --unit=llmdeploy-support-chat-1a2b3c4d-volume.scope --property=TimeoutStopSec=15'
    fi
    status=0
    printf '%s\n' "$key" | gocryptfs_clean -nosyslog -allow_other -o nosuid,nodev "$backing/fs" "$mount" >"$messages" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        cat "$messages" >&2
        exit "$status"
    fi
fi
unset key
chmod 0711 "$mount"
