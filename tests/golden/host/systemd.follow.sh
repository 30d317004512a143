exec journalctl --namespace=llmd-1a2b3c4d-engine-0 --identifier=engine-0 --quiet --output=cat --lines=50 --follow
