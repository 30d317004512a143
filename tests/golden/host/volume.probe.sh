mount=/var/lib/llmdeploy/support-chat-1a2b3c4d/volume
[ ! -d "$mount" ] || printf 'folder\tyes\n'
[ ! -e /var/lib/llmdeploy/support-chat-1a2b3c4d/volume.enc/fs/gocryptfs.conf ] || printf 'made\tyes\n'
if awk -v path="$mount" '$5 == path { found = 1 } END { exit !found }' /proc/self/mountinfo; then
    printf 'mounted\tyes\n'
    ! timeout 20 stat -t "$mount/." >/dev/null || printf 'answers\tyes\n'
fi
