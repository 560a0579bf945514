"""Who thinks: functions, language models, recorded replies.

leaf.py       what a task is handed while it runs
function.py   functions that travel: packed once by code identity, loaded once by a worker
entry_point.py a function by its name
flagging.py   what a function that leaves questions to a decider is given: `flag`
request.py    what is asked of whoever performs a leaf
work.py       what a user gives to do, made into one thing that travels; calling.py, the leaf that performs it
prompt.py     what a model is asked, as a value
reply.py      a model's reply on disk, and its receipt
llm.py        language models: what is asked, recorded, sent again
agent.py      agents: a model that works with tools, as a value
tool_loop.py, conversation.py   one attempt of an agent: what is done, and the rules of what is said
output_schema.py   what an output must look like
tools/        what an agent may be given to work with
command.py    agents: an outside program, as a value; line_protocol.py, the rules of what it is told and says
teamwork.py   what a tree's run does with git, as tasks
answer.py     what a model's server said, whichever way it was asked
backoff.py    when a request is sent again, and after how long
litellm_door.py, http_door.py   the two ways to a model; guard.py, what a server may do to us on the first
"""
