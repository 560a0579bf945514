"""Who thinks: functions, language models, recorded replies.

leaf.py       what a task is handed while it runs
function.py   functions that travel: packed once by code identity, loaded once by a worker
llm.py        language models, the one door to litellm
"""
