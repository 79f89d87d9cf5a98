"""From a base and an adapter to a merged model folder, and from that to a GGUF file, LM Studio and Ollama."""
