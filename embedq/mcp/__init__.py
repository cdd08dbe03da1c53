"""embedq for agents, by the Model Context Protocol: over stdio (`embedq mcp`) and on the HTTP service (/mcp).

The SDK (the extra `embedq[mcp]`) is imported by `server` alone, and the tools only when a client asks for them: `initialize` is answered
soon after the process has started. May be imported by http and cli; uses client and below.
"""
