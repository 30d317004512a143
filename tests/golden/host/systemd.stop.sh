unit=llmdeploy-support-chat-1a2b3c4d-engine-0.service
if [ "$(systemctl show --property LoadState --value "$unit")" = loaded ]; then
    systemctl disable --quiet --now "$unit"
fi
