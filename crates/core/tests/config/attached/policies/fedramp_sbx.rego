package fedramp_sbx_default

import rego.v1

default allow := false

allow if input.parameters.environment in data.config.environments
