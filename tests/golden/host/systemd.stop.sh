unit=llmdeploy-support-chat-1a2b3c4d-engine-0.service
if [ "$(systemctl show --property ActiveState --value "$unit")" != inactive ]; then
    systemctl stop "$unit"
fi
rm -f "/etc/systemd/system/multi-user.target.wants/$unit"
