unit=llmdeploy-support-chat-1a2b3c4d-gateway.service namespace=llmd-1a2b3c4d-gateway applied=/run/llmdeploy/support-chat-1a2b3c4d/applied/gateway digest=358946ec3d362738b3afaecbc82bba4e90448b53ab16c1337a32effbc39ad2ea
put() {
    mkdir -p "$(dirname "$1")"
    cat >"$1.llmdeploy-new"
    chmod "$2" "$1.llmdeploy-new"
    sync "$1.llmdeploy-new"
    mv -f "$1.llmdeploy-new" "$1"
}
put /etc/systemd/system/llmdeploy-support-chat-1a2b3c4d-gateway.service 0644 <<'LLMDEPLOY_END'
# Written by llmdeploy.
[Unit]
Description=llmdeploy support-chat-1a2b3c4d: gateway
After=network.target llmdeploy-support-chat-1a2b3c4d-volume.scope
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStartPre=+/bin/sh -eu /var/lib/llmdeploy/support-chat-1a2b3c4d/services/gateway.pre_start
ExecStart="/usr/sbin/haproxy" "-W" "-db"
UMask=077
WorkingDirectory=/
Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin
UnsetEnvironment=HOME INVOCATION_ID JOURNAL_STREAM LANG LOGNAME LOG_NAMESPACE MEMORY_PRESSURE_WATCH MEMORY_PRESSURE_WRITE SHELL SYSTEMD_EXEC_PID USER
Restart=always
RestartSec=5
KillMode=mixed
KillSignal=SIGUSR1
TimeoutStopSec=30
TimeoutStartSec=infinity
LimitCORE=0
LimitNOFILE=65536
LogNamespace=llmd-1a2b3c4d-gateway
SyslogIdentifier=gateway
NoNewPrivileges=yes
PrivateTmp=yes
ProtectSystem=strict
ReadWritePaths=-/var/lib/llmdeploy/support-chat-1a2b3c4d -/run/llmdeploy/support-chat-1a2b3c4d -/var/log/llmdeploy/support-chat-1a2b3c4d
ProtectHome=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
LLMDEPLOY_END
put /etc/systemd/journald@llmd-1a2b3c4d-gateway.conf 0644 <<'LLMDEPLOY_END'
# Written by llmdeploy.
[Journal]
Storage=persistent
SystemMaxUse=62914560
SystemMaxFileSize=10485760
MaxFileSec=1day
MaxRetentionSec=7day
RateLimitIntervalSec=0
ForwardToSyslog=no
LineMax=1M
LLMDEPLOY_END
put /var/lib/llmdeploy/support-chat-1a2b3c4d/services/gateway.pre_start 0600 <<'LLMDEPLOY_END'

LLMDEPLOY_END
if [ "$(cat "$applied" 2>/dev/null)" != "$digest" ] || ! systemctl is-active --quiet "$unit"; then
    systemctl daemon-reload
    systemctl enable --quiet "$unit"
    systemctl try-restart "systemd-journald@$namespace.service"
    systemctl reset-failed "$unit" 2>/dev/null || :
    # A preparation that fails is tried again by systemd, and told in the log; whoever waits for the service sees it.
    systemctl restart "$unit" || [ "$(systemctl show --property LoadState --value "$unit")" = loaded ]
    mkdir -p "$(dirname "$applied")"
    echo "$digest" >"$applied"
fi
