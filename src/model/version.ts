/** This program and its version, as manifests and `--version` name it. */
export const toolVersion = '0.1.0'
