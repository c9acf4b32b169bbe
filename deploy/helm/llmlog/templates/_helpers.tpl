{{- define "llmlog.name" -}}
{{- printf "%s-%s" .Release.Name "llmlog" | trunc 48 | trimSuffix "-" -}}
{{- end -}}

{{- define "llmlog.labels" -}}
app.kubernetes.io/name: llmlog
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "llmlog.selector" -}}
app.kubernetes.io/name: llmlog
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "llmlog.image" -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag }}{{- end -}}
{{- end -}}

{{/* The pod's part that all have: no root, no rights, no variables of other services. */}}
{{- define "llmlog.pod" -}}
enableServiceLinks: false
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "llmlog.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Settings, and those of files: .settings, .secretSettings */}}
{{- define "llmlog.env" -}}
{{- range $name, $value := .settings }}
- name: LLMLOG_{{ upper $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- range $name, $of := .secretSettings }}
- name: LLMLOG_{{ upper $name }}_FILE
  value: /run/llmlog/{{ $name }}
{{- end }}
{{- end -}}

{{/* .secretSettings, .ca */}}
{{- define "llmlog.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .secretSettings }}
- {name: secrets, mountPath: /run/llmlog, readOnly: true}
{{- end }}
{{- if .ca }}
- {name: ca, mountPath: /etc/llmlog/ca, readOnly: true}
{{- end }}
{{- end -}}

{{- define "llmlog.volumes" -}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
{{- if .secretSettings }}
- name: secrets
  projected:
    defaultMode: 288
    sources:
{{- range $name, $of := .secretSettings }}
      - secret:
          name: {{ $of.secret }}
          items: [{key: {{ $of.key }}, path: {{ $name }}}]
{{- end }}
{{- end }}
{{- if .ca }}
- name: ca
  configMap: {name: {{ .ca }}}
{{- end }}
{{- end -}}
