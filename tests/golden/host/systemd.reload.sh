systemctl kill --kill-who=main --signal=USR2 llmdeploy-support-chat-1a2b3c4d-gateway.service
