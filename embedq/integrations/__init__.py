"""embedq for retrieval frameworks (LangChain, LlamaIndex). Each module needs the extra of its name.

Imported by applications only; uses client and below.
"""
