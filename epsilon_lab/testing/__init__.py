"""The kit that ships: what a test of a lab, ours or a user's, needs and cannot get from the network.

model_server.py   an OpenAI-compatible server on 127.0.0.1 that answers, stalls and breaks as scripted
"""
