"""Sources of lines over a network: an MQTT broker (plain lines or Sparkplug B) or an OPC UA server."""
