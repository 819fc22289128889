import { spawnSync } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Manifest } from './files.ts'
import { root } from './files.ts'

const packageOf = (apiVersion: string) =>
  apiVersion.startsWith('monitoring.coreos.com/') ? '@kubernetes-models/prometheus-operator' : 'kubernetes-models'

/**
 * What the API of Kubernetes has against these manifests. The compiler knows fields that do not exist, which the API drops
 * without a word; the schema knows values.
 */
export async function complaintsOf(directory: string, manifests: readonly Manifest[]): Promise<string> {
  await mkdir(directory, { recursive: true })
  const lines = manifests.flatMap((manifest, index) => [
    `import { ${manifest.kind} as K${index}, type I${manifest.kind} as I${index} } from '${packageOf(manifest.apiVersion)}/${manifest.apiVersion}'`,
    `const m${index}: I${index} = ${JSON.stringify(manifest)}`,
    `new K${index}(m${index}).validate()`,
  ])
  const file = join(directory, 'manifests.ts')
  await writeFile(file, `${lines.join('\n')}\n`)
  const options = '--ignoreConfig --noEmit --strict --skipLibCheck --target es2024 --module nodenext --types node'
  // Without what tap slips into the processes of a test.
  const args = ['--unset=NODE_OPTIONS', join(root, 'node_modules/.bin/tsc'), ...options.split(' '), file]
  const compiled = spawnSync('env', args, { encoding: 'utf8' })
  if (compiled.error !== undefined) throw compiled.error
  if (compiled.status !== 0) return `${compiled.stdout}${compiled.stderr}`
  return import(file).then(
    () => '',
    (error: unknown) => String(error),
  )
}
