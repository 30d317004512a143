cd /var/log/llmdeploy/support-chat-1a2b3c4d/engine-0 2>/dev/null || exit 0
for file in @*.s @*.u current; do
    [ ! -f "$file" ] || cat "$file"
done | tail -n 50
