"""The local machine: the embedded servers (programs, passwords, the user they run as, environment, roles), the child processes of `embedq
up`, and files. May be imported by settings and above; uses decide."""
