"""The pages that show notices: what is due, what became of messages, how the channels stand."""
