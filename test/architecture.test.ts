import { readdir, readFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import t from 'tap'

const root = join(import.meta.dirname, '..', 'src')

/** Which folders the files of a folder may import from, besides their own. Files beside the folders compose them all. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  domain: [],
  storage: ['clock', 'domain', 'scripts'],
  postgres: ['clock', 'domain', 'scripts'],
  config: ['domain', 'runner'],
  encryption: ['config', 'domain', 'postgres'],
  repository: ['clock', 'domain', 'storage'],
  runner: ['clock', 'domain'],
  physical: ['clock', 'domain', 'encryption', 'fetch', 'postgres', 'repository', 'storage'],
  jobs: [
    'clock',
    'config',
    'domain',
    'encryption',
    'external',
    'fetch',
    'observe',
    'physical',
    'postgres',
    'repository',
    'runner',
    'scripts',
    'storage',
  ],
  external: ['domain', 'postgres'],
  observe: ['clock', 'domain', 'external', 'fetch', 'postgres', 'repository', 'runner', 'scripts', 'storage'],
  streaming: ['clock', 'domain', 'postgres', 'storage'],
  'wal-check': ['clock', 'domain', 'fetch', 'observe', 'postgres', 'repository', 'runner'],
  shipping: ['clock', 'domain', 'observe', 'repository', 'scripts'],
  fetch: ['clock', 'domain', 'repository', 'scripts', 'storage'],
  notify: ['clock', 'config', 'domain', 'runner'],
  metrics: ['domain', 'observe', 'runner'],
  'alert-drill': ['clock', 'config', 'domain', 'runner'],
  alerts: ['domain', 'metrics'],
  http: ['clock', 'config', 'domain', 'metrics', 'observe', 'runner'],
  check: [
    'alert-drill',
    'alerts',
    'clock',
    'config',
    'domain',
    'encryption',
    'jobs',
    'observe',
    'postgres',
    'repository',
    'storage',
    'streaming',
  ],
  init: ['clock', 'config', 'domain', 'external', 'observe', 'postgres'],
  demo: ['app', 'clock', 'config', 'domain', 'postgres', 'runner', 'version'],
  cli: [
    'alert-drill',
    'app',
    'check',
    'clock',
    'cluster-restore',
    'config',
    'core',
    'demo',
    'domain',
    'fetch',
    'http',
    'init',
    'observe',
    'postgres',
    'repositories',
    'repository',
    'runner',
    'ship-meanwhile',
    'storage',
    'version',
    'wal-check',
  ],
}

/** Libraries that stay in one place, so that one can be replaced without touching the rest. */
const homes: readonly (readonly [library: RegExp, home: RegExp])[] = [
  [/^(fastify|@fastify\/)/, /^http\//],
  [/^prom-client$/, /^metrics\//],
  [/^chokidar$/, /^observe\//],
  [/^pg$/, /^postgres\//],
  [/^@(aws-sdk|smithy)\//, /^storage\/s3(-\w+)?\.ts$/],
  [/^undici$/, /^(alert-drill|notify)\//],
  [/^croner$/, /^(runner|config)\//],
  [/^node:child_process$/, /^postgres\/programs\.ts$/],
  [/^node:sqlite$/, /^runner\//],
]

interface SourceFile {
  readonly path: string
  readonly text: string
  readonly imports: readonly string[]
}

const files: SourceFile[] = []
for (const entry of await readdir(root, { recursive: true })) {
  if (!entry.endsWith('.ts')) continue
  const text = await readFile(join(root, entry), 'utf8')
  const imports = [
    ...text.matchAll(/^(?:import|export)\s[^'"]*?from\s+'([^']+)'|^import '([^']+)'|import\('([^']+)'\)/gm),
  ]
  files.push({ path: entry, text, imports: imports.map((found) => found[1] ?? found[2] ?? found[3] ?? '') })
}
const folderOf = (path: string) => path.split('/')[0]?.replace(/\.ts$/, '') ?? ''

t.test('imports point downwards only', async (t) => {
  t.ok(files.length > 80, 'the source was found')
  for (const { path, imports } of files.filter((file) => file.path.includes('/'))) {
    const folder = folderOf(path)
    const permitted = allowed[folder]
    if (permitted === undefined) {
      t.fail(`src/${folder} is not in the table: say what it may know`)
      continue
    }
    for (const target of imports.filter((one) => one.startsWith('.'))) {
      const other = folderOf(relative(root, join(root, dirname(path), target)))
      if (other !== folder && !permitted.includes(other))
        t.fail(`${path} imports ${target}: ${folder} may not know ${other}`)
    }
  }
})

t.test('each library stays in its place', async (t) => {
  for (const [library, home] of homes) {
    const users = files.filter(({ imports }) => imports.some((one) => library.test(one)))
    t.ok(users.length > 0, `${library} is used`)
    for (const { path } of users) t.match(path, home, `${path} may not import ${library}`)
  }
})

t.test('only the clock knows the time, only main ends the process', async (t) => {
  for (const { path, text } of files) {
    if (path !== 'clock.ts')
      t.notMatch(text, /\bDate\.now\(\)|\bnew Date\(\)|performance\.now\(\)/, `${path} asks the clock`)
    t.notMatch(text, /\bprocess\.exit\(/, `${path} does not end the process`)
  }
})

t.test('only one file knows where it is: in what is built, many are one', async (t) => {
  for (const { path, text } of files)
    if (path !== 'scripts.ts') t.notMatch(text, /import\.meta/, `${path} asks scripts.ts`)
})

t.test('files stay small', async (t) => {
  for (const { path, text } of files) t.ok(text.split('\n').length <= 330, `${path} has one idea`)
})
