"""Units and manifests for those who start runs: systemd, cron, Kubernetes, AWS."""
