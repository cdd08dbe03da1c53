"""This machine. What the embedded servers are made of: programs, passwords, the user they run as, their environment and roles;
the child processes of `embedq up`, and files. May be imported by settings and above; uses decide."""
