"""The verbs, one per file. Parses, calls the workflow, hands values to a view; decides nothing itself."""
