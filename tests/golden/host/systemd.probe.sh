unit=llmdeploy-support-chat-1a2b3c4d-engine-0.service
running=no
[ "$(systemctl show --property ActiveState --value "$unit")" != active ] || running=yes
printf 'running\t%s\n' "$running"
printf 'pid\t%s\n' "$(systemctl show --property MainPID --value "$unit")"
printf 'restarts\t%s\n' "$(systemctl show --property NRestarts --value "$unit")"
printf 'definition\t%s\n' "$(cat /etc/systemd/system/llmdeploy-support-chat-1a2b3c4d-engine-0.service /etc/systemd/journald@llmd-1a2b3c4d-engine-0.conf /var/lib/llmdeploy/support-chat-1a2b3c4d/services/engine-0.pre_start | sha256sum | cut -d ' ' -f 1)"
