printf 'marker\t%s\n' "$(sed -n 's/^lineage=//p' /var/lib/llmdeploy/support-chat-1a2b3c4d/.stack)"
printf 'comment\t%s\n' "$(getent passwd llmd-1a2b3c4d | cut -d : -f 5)"
printf 'uid\t%s\n' "$(id -u llmd-1a2b3c4d)"
for folder in /var/lib/llmdeploy/support-chat-1a2b3c4d /run/llmdeploy/support-chat-1a2b3c4d /var/log/llmdeploy/support-chat-1a2b3c4d; do
    printf 'mode.%s\t%s\n' "$folder" "$(stat -c '%a %U' "$folder")"
done
