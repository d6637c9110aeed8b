"""The neural executor: the update rules of `mnpo.rules` on language models. Needs the extra `mnpo[llm]`."""
