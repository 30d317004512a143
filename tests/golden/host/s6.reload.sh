pid=$(s6-svstat -o pid /run/llmdeploy/support-chat-1a2b3c4d/services/gateway)
if [ "$pid" -le 0 ]; then
    echo "it is not running" >&2
    exit 1
fi
kill -USR2 "$pid"
