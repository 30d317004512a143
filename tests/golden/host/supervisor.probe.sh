! s6-svscanctl /run/llmdeploy/support-chat-1a2b3c4d/services || echo 'running	yes'
