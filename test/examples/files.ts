import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { parseDockerfile } from '../support/dockerfile.ts'

export const root = join(import.meta.dirname, '../..')
export const read = (path: string): string => readFileSync(join(root, path), 'utf8')

/** What stands in the documents of a YAML file. As Compose and Kubernetes read it: `0o400` and aliases, no surprises else. */
export function documents<T>(path: string): readonly T[] {
  return parseAllDocuments(read(path)).map((document) => {
    const problems = [...document.errors, ...document.warnings]
    if (problems.length > 0) throw new Error(`${path}: ${problems.join('\n')}`)
    return document.toJS() as T
  })
}

export interface Service {
  readonly image: string
  readonly command?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly secrets?: readonly { readonly source: string; readonly uid: string; readonly mode: number }[]
  readonly configs?: readonly { readonly source: string }[]
  readonly volumes?: readonly string[]
  readonly ports?: readonly string[]
  readonly depends_on?: object | readonly string[]
  readonly build?: { readonly context: string; readonly args: Readonly<Record<string, string>> }
  readonly shm_size?: string
  readonly stop_grace_period?: string
}

export interface Compose {
  readonly services: Readonly<Record<string, Service>>
  readonly secrets: Readonly<Record<string, { readonly environment: string }>>
  readonly configs: Readonly<Record<string, { readonly content: string }>>
  readonly volumes: Readonly<Record<string, unknown>>
}

export interface Mount {
  readonly name: string
  readonly mountPath: string
  readonly subPath?: string
}

interface Probe {
  readonly httpGet?: { readonly path: string; readonly port: string }
}

export interface Container {
  readonly name: string
  readonly image: string
  readonly env?: readonly { readonly name: string; readonly value: string }[]
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[]
  readonly volumeMounts: readonly Mount[]
  readonly securityContext: Readonly<Record<string, unknown>>
  readonly startupProbe?: Probe
  readonly livenessProbe?: Probe
  readonly readinessProbe?: Probe
}

export interface Volume {
  readonly name: string
  readonly configMap?: { readonly name: string; readonly defaultMode?: number }
  readonly secret?: { readonly secretName: string; readonly defaultMode?: number }
}

/** As much of a manifest as is looked at. */
export interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly labels: Readonly<Record<string, string>> }
  readonly data?: Readonly<Record<string, string>>
  readonly stringData?: Readonly<Record<string, string>>
  readonly spec?: unknown
}

export interface StatefulSetSpec {
  readonly serviceName: string
  readonly selector: { readonly matchLabels: Readonly<Record<string, string>> }
  readonly template: {
    readonly metadata: { readonly labels: Readonly<Record<string, string>> }
    readonly spec: {
      readonly securityContext: Readonly<Record<string, unknown>>
      readonly terminationGracePeriodSeconds: number
      readonly containers: readonly Container[]
      readonly volumes: readonly Volume[]
    }
  }
  readonly volumeClaimTemplates: readonly { readonly metadata: { readonly name: string } }[]
}

export interface ServiceSpec {
  readonly selector: Readonly<Record<string, string>>
  readonly ports: readonly { readonly name: string; readonly port: number; readonly targetPort: string }[]
}

/** What the Dockerfile says, which everything else has to agree with. */
export const image = (() => {
  const instructions = parseDockerfile(read('Dockerfile')).at(-1)?.instructions ?? []
  const words = (name: string) => instructions.filter((one) => one.name === name).flatMap((one) => [...one.words])
  const environment = Object.fromEntries(words('ENV').map((word) => word.split('=', 2) as [string, string]))
  const [, uid = ''] = /--uid (\d+)/.exec(read('Dockerfile')) ?? []
  const [, gid = ''] = /--gid (\d+)/.exec(read('Dockerfile')) ?? []
  return {
    environment,
    uid,
    gid,
    port: Number(words('EXPOSE')[0]),
    volumes: words('VOLUME'),
    entry: words('ENTRYPOINT'),
  }
})()

/** What systemd has against a unit; empty when nothing. Of other units of this machine it may say what it likes. */
export function complaintOfUnit(file: string): string {
  const args = ['verify', '--man=no', '--recursive-errors=no', file]
  const { status, error, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' })
  if (error !== undefined) throw error
  const about = stderr.split('\n').filter((line) => line.includes(basename(file)))
  return status === 0 ? about.join('\n') : `${status}: ${stderr}`
}
