"""Who thinks: functions, language models, recorded replies.

leaf.py       what a task is handed while it runs
function.py   functions that travel: packed once by code identity, loaded once by a worker
prompt.py     what a model is asked, as a value
reply.py      a model's reply on disk, and its receipt
llm.py        language models, the one door to litellm
"""
