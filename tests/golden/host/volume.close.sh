# Locks the volume and destroys its key first, so that what remains of the folder means nothing.
backing=/var/lib/llmdeploy/support-chat-1a2b3c4d/volume.enc mount=/var/lib/llmdeploy/support-chat-1a2b3c4d/volume messages=/run/llmdeploy/support-chat-1a2b3c4d/volume.log
is_mounted() { awk -v path="$mount" '$5 == path { found = 1 } END { exit !found }' /proc/self/mountinfo; }

users() {
    for entry in /proc/[0-9]*; do
        for link in "$entry/cwd" "$entry/root" "$entry/exe" "$entry"/fd/*; do
            case $(readlink "$link" 2>/dev/null) in
            "$mount" | "$mount"/*)
                printf ' %s (%s)' "${entry#/proc/}" "$(cat "$entry/comm" 2>/dev/null)"
                break
                ;;
            esac
        done
    done
}

tries=0
while is_mounted; do
    if ! timeout 20 stat -t "$mount/." >/dev/null 2>&1; then
        umount -l "$mount"
    elif ! umount "$mount" 2>/dev/null; then
        tries=$((tries + 1))
        if [ "$tries" -gt 50 ]; then
            echo "the volume is still used by$(users)" >&2
            exit 76
        fi
        sleep 0.1
    fi
done
if [ -e "$backing/fs/gocryptfs.conf" ]; then
    shred -n 1 "$backing/fs/gocryptfs.conf"
    rm -f "$backing/fs/gocryptfs.conf"
    sync "$backing/fs"
fi
rm -rf --one-file-system "$backing" "$mount" "$messages"
