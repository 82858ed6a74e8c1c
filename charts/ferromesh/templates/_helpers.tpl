{{/* Labels of everything. Takes the root. */}}
{{- define "ferromesh.labels" -}}
app.kubernetes.io/part-of: ferromesh
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Image of a daemon. Takes a dict of root and name. */}}
{{- define "ferromesh.image" -}}
{{- $image := .root.Values.image -}}
{{- printf "%s/%s:%s" $image.registry .name (default .root.Chart.AppVersion $image.tag) -}}
{{- end }}

{{- define "ferromesh.pull" -}}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
{{- end }}

{{/* Rights of a daemon's container: none. */}}
{{- define "ferromesh.containerRights" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- define "ferromesh.podRights" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- if .Values.priorityClass.create }}
priorityClassName: {{ .Release.Name }}-control-plane
{{- end }}
{{- end }}

{{/* Replicas on different nodes and in different zones, where there are some. Takes a dict of name. */}}
{{- define "ferromesh.spread" -}}
topologySpreadConstraints:
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        app: {{ $.name }}
{{- end }}
{{- end }}

{{/* Probes on a daemon's admin port. */}}
{{- define "ferromesh.probes" -}}
startupProbe:
  httpGet: { path: /healthz/live, port: admin }
  periodSeconds: 1
  failureThreshold: 60
readinessProbe:
  httpGet: { path: /healthz/ready, port: admin }
  periodSeconds: 3
livenessProbe:
  httpGet: { path: /healthz/live, port: admin }
  periodSeconds: 10
  failureThreshold: 6
{{- end }}

{{/* The mesh's MeshConfig, as text. */}}
{{- define "ferromesh.meshConfig" -}}
{{- $ours := dict "trustDomain" .Values.trustDomain "rootNamespace" .Release.Namespace "defaultConfig" (dict "discoveryAddress" (printf "ferromesh-controller.%s.svc:15012" .Release.Namespace)) -}}
{{- mustMergeOverwrite $ours (deepCopy .Values.meshConfig) | toYaml -}}
{{- end }}

{{/* The injector's settings, as text. */}}
{{- define "ferromesh.injectorSettings" -}}
{{- $ours := dict
  "proxyImage" (include "ferromesh.image" (dict "root" . "name" "proxy"))
  "imagePullPolicy" .Values.image.pullPolicy
  "imagePullSecrets" .Values.image.pullSecrets
  "revision" .Values.revision
  "discoveryAddress" (printf "ferromesh-controller.%s.svc:15012" .Release.Namespace)
  "caAddress" (printf "ferromesh-ca.%s.svc:15012" .Release.Namespace)
  "clusterDomain" .Values.clusterDomain
  "clusterId" .Values.clusterName
  "redirectBy" (ternary "nodeAgent" "initContainer" .Values.cni.enabled) -}}
{{- mustMergeOverwrite $ours (deepCopy .Values.injector.settings) | toYaml -}}
{{- end }}

{{/* A daemon's token and the mesh's roots: volumes, then mounts. */}}
{{- define "ferromesh.identityVolumes" -}}
- name: istio-token
  projected:
    sources:
      - serviceAccountToken:
          audience: istio-ca
          expirationSeconds: 43200
          path: istio-token
- name: istiod-ca-cert
  configMap:
    name: istio-ca-root-cert
{{- end }}

{{- define "ferromesh.identityMounts" -}}
- name: istio-token
  mountPath: /var/run/secrets/tokens
  readOnly: true
- name: istiod-ca-cert
  mountPath: /var/run/secrets/istio
  readOnly: true
{{- end }}
