unit=llmdeploy-support-chat-1a2b3c4d-engine-0.service
if [ "$(systemctl show --property LoadState --value "$unit")" = loaded ]; then
    systemctl disable --quiet --now "$unit"
fi
namespace=llmd-1a2b3c4d-engine-0
for suffix in .service .socket; do
    systemctl stop "systemd-journald@$namespace$suffix" 2>/dev/null || :
done
systemctl stop "systemd-journald-varlink@$namespace.socket" 2>/dev/null || :
rm -rf /var/log/journal/*."$namespace" /run/log/journal/*."$namespace"
rm -f /etc/systemd/system/llmdeploy-support-chat-1a2b3c4d-engine-0.service /etc/systemd/journald@llmd-1a2b3c4d-engine-0.conf /var/lib/llmdeploy/support-chat-1a2b3c4d/services/engine-0.pre_start /run/llmdeploy/support-chat-1a2b3c4d/applied/engine-0
systemctl daemon-reload
systemctl reset-failed "$unit" 2>/dev/null || :
