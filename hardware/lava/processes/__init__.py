"""Lava processes, one per file, and nothing else.

Lava looks for the model of a process by executing every file of the process's folder, under
its bare name and once per process: a file here imports absolutely and does nothing on import.
"""
