"""Any OpenAI-compatible server as a `Generator`.

generator = open_remote("openai:MODEL@https://host/v1")

openai      `open_remote` and `OpenAIGenerator`
address     what `openai:MODEL@https://host/v1` means, and where its key is found
dialect     what a server can do, found out by asking it
stream      one running request
chunks      what it receives
echo        log-likelihoods from an echoed prompt
transport   HTTP: retries, time-outs, refusals put into sentences
workers     the threads that do it
"""
