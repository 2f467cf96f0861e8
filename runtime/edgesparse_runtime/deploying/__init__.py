"""What `edgesparse deploy` writes: files for engines that others build and run.

| file | for |
|---|---|
| `triton`, `triton_config` | a Triton model repository |
| `container` | a Containerfile |
| `kserve` | a KServe InferenceService |
| `ray_serve` | a Ray Serve application, and `ray_scoring` batch scoring with Ray Data |

`destination` refuses to write into a bundle, `names` makes names that engines accept.
"""
