# docker buildx bake            all images, for this machine
# docker buildx bake mariadb    one of them
# PROD=true DBBR_REGISTRY=ghcr.io/gatenlp/ docker buildx bake --push
#
# PROD=true: for amd64 and arm64. DBBR_REGISTRY: what stands before the names, with its slash.

variable "PROD" { default = "" }
variable "DBBR_REGISTRY" { default = "" }
variable "RCLONE" { default = "1.71.1" }
variable "PG_MAJORS" { default = "13 14 15 16 17 18" }

group "default" { targets = ["cairn", "postgresql", "mariadb"] }

target "common" {
  context    = "."
  dockerfile = "images/Dockerfile"
  platforms  = PROD == "" || PROD == "false" ? [] : ["linux/amd64", "linux/arm64"]
  args       = { RCLONE = RCLONE, PG_MAJORS = PG_MAJORS }
}

target "cairn" {
  inherits = ["common"]
  target   = "cairn"
  tags     = ["${DBBR_REGISTRY}cairn:latest"]
}

# Also under the names of the images that they replace.
target "postgresql" {
  inherits = ["common"]
  target   = "postgresql"
  tags = [
    "${DBBR_REGISTRY}cairn:postgresql",
    "${DBBR_REGISTRY}postgresql-backup-rclone:latest",
    "${DBBR_REGISTRY}postgresql-backup-rclone:rclone-v${RCLONE}",
  ]
}

target "mariadb" {
  inherits = ["common"]
  target   = "mariadb"
  tags = [
    "${DBBR_REGISTRY}cairn:mariadb",
    "${DBBR_REGISTRY}mariadb-backup-rclone:latest",
    "${DBBR_REGISTRY}mariadb-backup-rclone:rclone-v${RCLONE}",
  ]
}
