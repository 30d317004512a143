unit=llmdeploy-support-chat-1a2b3c4d-engine-0.service
if [ "$(systemctl show --property ActiveState --value "$unit")" != inactive ]; then
    systemctl stop "$unit"
fi
rm -f "/etc/systemd/system/multi-user.target.wants/$unit"
namespace=llmd-1a2b3c4d-engine-0
journal=systemd-journald@$namespace
systemctl stop "$journal.socket" "systemd-journald-varlink@$namespace.socket" "$journal.service" 2>/dev/null || :
rm -rf /var/log/journal/*."$namespace" /run/log/journal/*."$namespace" "/run/systemd/journal.$namespace"
# journald makes it where a machine keeps no journal on disk; left there, the machine would begin to.
[ ! -d /var/log/journal ] || rmdir --ignore-fail-on-non-empty /var/log/journal
rm -f /etc/systemd/system/llmdeploy-support-chat-1a2b3c4d-engine-0.service /etc/systemd/journald@llmd-1a2b3c4d-engine-0.conf /var/lib/llmdeploy/support-chat-1a2b3c4d/services/engine-0.pre_start /run/llmdeploy/support-chat-1a2b3c4d/applied/engine-0
systemctl daemon-reload
systemctl reset-failed "$unit" 2>/dev/null || :
