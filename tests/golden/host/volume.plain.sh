mkdir -p /var/lib/llmdeploy/support-chat-1a2b3c4d/volume
chmod 0711 /var/lib/llmdeploy/support-chat-1a2b3c4d/volume
