unit=llmdeploy-support-chat-1a2b3c4d-engine-0.service namespace=llmd-1a2b3c4d-engine-0 applied=/run/llmdeploy/support-chat-1a2b3c4d/applied/engine-0 digest=1fae6a7a193e5696caa4db41ae8fb00f316e3b1f565ceb7858d3b6ea79d5b878
put() {
    mkdir -p "$(dirname "$1")"
    cat >"$1.llmdeploy-new"
    chmod "$2" "$1.llmdeploy-new"
    sync "$1.llmdeploy-new"
    mv -f "$1.llmdeploy-new" "$1"
}
put /etc/systemd/system/llmdeploy-support-chat-1a2b3c4d-engine-0.service 0644 <<'LLMDEPLOY_END'
# Written by llmdeploy.
[Unit]
Description=llmdeploy support-chat-1a2b3c4d: engine-0
After=network.target llmdeploy-support-chat-1a2b3c4d-volume.scope
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStartPre=+/bin/sh -eu /var/lib/llmdeploy/support-chat-1a2b3c4d/services/engine-0.pre_start
ExecStart="/opt/run time/bin/python" "-m" "serve" "--model" "$$weights; rm -rf /" "--share" "50%%" "it's \"quoted\" \\"
User=llmd-1a2b3c4d
Group=llmd-1a2b3c4d
CapabilityBoundingSet=
UMask=077
WorkingDirectory=/
Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin
Environment="HOME=/var/lib/a b"
Environment="GREETING=it's $HOME 100%% \\ \"here\""
UnsetEnvironment=INVOCATION_ID JOURNAL_STREAM LANG LOGNAME LOG_NAMESPACE MEMORY_PRESSURE_WATCH MEMORY_PRESSURE_WRITE SHELL SYSTEMD_EXEC_PID USER
EnvironmentFile=/var/lib/llmdeploy/support-chat-1a2b3c4d/engine.env
Restart=always
RestartSec=5
KillMode=mixed
KillSignal=SIGTERM
TimeoutStopSec=30
TimeoutStartSec=infinity
LimitCORE=0
LimitNOFILE=65536
MemoryMax=8589934592
LogNamespace=llmd-1a2b3c4d-engine-0
SyslogIdentifier=engine-0
NoNewPrivileges=yes
PrivateNetwork=yes
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
put /etc/systemd/journald@llmd-1a2b3c4d-engine-0.conf 0644 <<'LLMDEPLOY_END'
# Written by llmdeploy.
[Journal]
Storage=persistent
SystemMaxUse=62914560
SystemMaxFileSize=10485760
MaxFileSec=1day
MaxRetentionSec=30day
RateLimitIntervalSec=0
ForwardToSyslog=no
LineMax=1M
LLMDEPLOY_END
put /var/lib/llmdeploy/support-chat-1a2b3c4d/services/engine-0.pre_start 0600 <<'LLMDEPLOY_END'
mountpoint -q /var/lib/llmdeploy/support-chat-1a2b3c4d/volume
mkdir -p /run/llmdeploy/support-chat-1a2b3c4d/engine
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
