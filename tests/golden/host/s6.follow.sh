mkdir -p /var/log/llmdeploy/support-chat-1a2b3c4d/engine-0
exec tail -n 50 -F /var/log/llmdeploy/support-chat-1a2b3c4d/engine-0/current 2>/dev/null
