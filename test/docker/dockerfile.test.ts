import { existsSync, globSync } from 'node:fs'
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { dirname, join, matchesGlob } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { runProgram, startProgram } from '../../src/postgres/programs.ts'
import { type BuildStage, type Instruction, parseDockerfile } from '../support/dockerfile.ts'
import { freePort, startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'

// There may be no Docker engine where the tests run: these checks look at everything that can go wrong without one, and
// run the image's own commands on what its steps would put together.

const root = join(import.meta.dirname, '../..')
const read = (name: string) => readFile(join(root, name), 'utf8')
const all = (stage: BuildStage, name: string) => stage.instructions.filter((instruction) => instruction.name === name)
const only = (stage: BuildStage, name: string): Instruction => {
  const [found, ...more] = all(stage, name)
  if (found === undefined || more.length > 0) throw new Error(`${more.length + 1} times ${name}`)
  return found
}
const variables = (stage: BuildStage) =>
  new Map(all(stage, 'ENV').flatMap(({ words }) => words.map((word) => word.split('=', 2) as [string, string])))

/** Node.js without what tap slips into the processes of a test by NODE_OPTIONS. */
const plainNode = (args: readonly string[]) => ({
  program: 'env',
  args: ['--unset=NODE_OPTIONS', process.execPath, ...args],
})

const stages = parseDockerfile(await read('Dockerfile'))
const final = stages.at(-1) as BuildStage
const [entry, ...entryArgs] = only(final, 'ENTRYPOINT').words
const lock = JSON.parse(await read('package-lock.json')) as {
  packages: Record<string, { dev?: boolean; optional?: boolean }>
}
const manifest = JSON.parse(await read('package.json')) as {
  type: string
  dependencies: Record<string, string>
  devDependencies: Record<string, string>
}

t.test('the stages fit together', async (t) => {
  for (const major of ['15', '16', '17', '18']) {
    t.equal(parseDockerfile(await read('Dockerfile'), { PG_MAJOR: major }).at(-1)?.base, `postgres:${major}-bookworm`)
  }
  t.equal(final.base, 'postgres:17-bookworm', 'a default is set')
  for (const [index, stage] of stages.entries()) {
    const earlier = stages.slice(0, index).map(({ name }) => name)
    t.ok(earlier.includes(stage.base) || /^(?:node|postgres):\d+-bookworm/.test(stage.base), stage.base)
    for (const { flags, text } of all(stage, 'COPY')) {
      if (flags.from !== undefined) t.ok(earlier.includes(flags.from), `COPY --from=${flags.from} ${text}`)
    }
  }
  const node = /^node:(\d+)-/.exec(stages[0]?.base ?? '')?.[1]
  t.equal(node, /^\d+/.exec(manifest.devDependencies.node ?? '')?.[0], 'the Node.js that the tests run on')
})

t.test('what is copied from the tree is there and not ignored', async (t) => {
  const rules = (await read('.dockerignore')).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  t.equal(rules[0], '*', 'nothing by default')
  const allowed = rules.slice(1).map((rule) => {
    t.match(rule, /^!/)
    return rule.slice(1)
  })
  const copied = stages
    .flatMap((stage) => all(stage, 'COPY'))
    .filter(({ flags }) => flags.from === undefined)
    .flatMap(({ words }) => words.slice(0, -1))
  for (const source of copied) {
    t.ok(existsSync(join(root, source)), `${source} exists`)
    t.ok(allowed.includes(source), `${source} is in the build context`)
  }
  for (const name of allowed) t.ok(copied.includes(name), `${name} is not sent in vain`)
})

t.test('what is copied from a stage was made there', (t) => {
  const made = new Map([
    ['node', ['/usr/local/bin/node']],
    ['dependencies', ['/app/node_modules', '/app/package.json']],
    ['build', ['/build/dist']],
  ])
  for (const { flags, words } of all(final, 'COPY').filter((copy) => copy.flags.from !== undefined)) {
    t.ok(made.get(flags.from ?? '')?.includes(words[0] ?? ''), `${flags.from}: ${words[0]}`)
  }
  const build = stages.find(({ name }) => name === 'build') as BuildStage
  const dependencies = stages.find(({ name }) => name === 'dependencies') as BuildStage
  t.equal(only(build, 'WORKDIR').text, '/build')
  t.equal(only(dependencies, 'WORKDIR').text, '/app')
  t.match(
    all(dependencies, 'RUN').map(({ text }) => text),
    [/^npm ci --omit=dev\b/, /^npm pkg set "gitHead=[$]{REVISION}"$/],
  )
  t.match(
    all(build, 'RUN').map(({ text }) => text),
    ['npm ci', 'npm run build'],
  )
  t.equal(only(final, 'WORKDIR').text, '/app')
  t.match(manifest, { type: 'module' }, 'package.json, which is copied, makes dist/ modules')
  t.end()
})

t.test('no development dependency is in the image', async (t) => {
  const production = Object.entries(lock.packages).filter(([path, { dev }]) => path !== '' && dev !== true)
  const names = production.map(([path]) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length))
  for (const name of Object.keys(manifest.devDependencies)) t.notOk(names.includes(name), name)
  for (const name of Object.keys(manifest.dependencies)) t.ok(names.includes(name), name)
  // Nor does the program need one.
  for (const file of globSync('src/**/*.ts', { cwd: root })) {
    const specifiers = [...(await read(file)).matchAll(/^(?:import|export) (?!type )[^;]*?from '([^'.][^']*)'$/gm)]
    for (const [, specifier = ''] of specifiers) {
      const name = specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/')
      t.ok(specifier.startsWith('node:') || name in manifest.dependencies, `${file} imports ${specifier}`)
    }
  }
})

t.test('it runs as a user without privileges, and is told nothing secret', async (t) => {
  const user = only(final, 'USER').text
  t.notMatch(user, /^(?:root|0)(?::|$)/)
  const made = /--uid (\d+) .*\b(\w+) /.exec(all(final, 'RUN').find(({ text }) => text.includes('useradd'))?.text ?? '')
  t.ok(Number(made?.[1]) >= 1000, `uid ${made?.[1]}`)
  const order = final.instructions.map(({ name }) => name)
  for (const name of ['RUN', 'COPY']) t.ok(order.lastIndexOf(name) < order.indexOf('USER'), `${name} before USER`)
  for (const name of ['VOLUME', 'ENTRYPOINT']) t.ok(order.indexOf(name) > order.indexOf('USER'), `${name} after USER`)
  for (const volume of only(final, 'VOLUME').words) {
    t.match(
      all(final, 'RUN')
        .map(({ text }) => text)
        .join('\n'),
      new RegExp(`install .*--owner=${user} .*${volume}(?:\\s|$)`, 'm'),
      `${volume} belongs to ${user}: a volume takes over the owner of what it covers`,
    )
  }
  t.notMatch(await read('Dockerfile'), /password|token|secret|private_key/i)
  t.match(only(final, 'EXPOSE').text, variables(final).get('LIFEBOAT_LISTEN')?.split(':')[1])
})

t.test('its entry point and health check work on what its steps put together', { timeout: 120_000 }, async (t) => {
  t.equal(entry, 'node')
  t.equal(entryArgs.at(-1), '/app/dist/main.js')
  const directory = await scratchDirectory(t)
  const app = join(directory, 'app')
  await assemble(app)
  const inPlace = (text: string) => text.replace('/app/', `${app}/`)
  const cluster = await startCluster(t)
  const port = await freePort()
  const env = {
    ...Object.fromEntries(variables(final)),
    LIFEBOAT_CONFIG: join(directory, 'lifeboat.yaml'),
    LIFEBOAT_LISTEN: `0.0.0.0:${port}`,
    LIFEBOAT_STATE_DIR: join(directory, 'state'),
  }
  const { host, user } = cluster.source
  await writeFile(
    env.LIFEBOAT_CONFIG,
    `cluster: image\nworkDir: ${directory}/work\npostgres: { host: ${host}, port: ${cluster.source.port}, user: ${user} }\n` +
      `repositories: [{ name: local, url: 'file://${directory}/repository' }]\n`,
    { mode: 0o600 },
  )
  const lines: string[] = []
  const running = await startProgram({
    ...plainNode([...entryArgs, ...only(final, 'CMD').words].map(inPlace)),
    cwd: app,
    env,
    onStderrLine: (line) => lines.push(line),
  })
  t.teardown(() => running.kill('SIGKILL'))
  running.stdout.on('data', (chunk: Buffer) => lines.push(chunk.toString()))
  let over = false
  const exited = running.exited.finally(() => {
    over = true
  })

  const [program, ...args] = only(final, 'HEALTHCHECK').words
  t.equal(program, 'node')
  const healthy = () =>
    runProgram({ ...plainNode(args), env }).then(
      () => true,
      () => false,
    )
  while (!over && !(await healthy())) await delay(50)
  t.equal(over, false, lines.join('\n'))
  t.ok(await healthy(), 'the health check sees that it runs')
  const health = await fetch(`http://127.0.0.1:${port}/-/healthy`)
  t.equal(health.status, 200)

  running.kill(only(final, 'STOPSIGNAL').text as NodeJS.Signals)
  t.match(await exited, { code: 0 }, 'it stops when Docker asks it to')
  t.notOk(await healthy(), 'the health check sees that it does not run')
})

/** What the final stage copies to /app, made the way the other stages make it. */
async function assemble(app: string): Promise<void> {
  const build = {
    program: 'npm',
    args: ['run', '--silent', 'build'],
    env: { OUT: join(app, 'dist'), PATH: process.env.PATH ?? '' },
  }
  await runProgram({ ...build, cwd: root })
  for (const { flags, words } of all(final, 'COPY')) {
    if (flags.from !== undefined) continue
    for (const name of words.slice(0, -1)) await writeFile(join(app, name), await read(name))
  }
  await writeFile(join(app, 'package.json'), JSON.stringify({ ...manifest, gitHead: 'abcdef' }))
  // The production packages alone: what imports another one fails to start.
  const top = Object.entries(lock.packages).filter(
    ([path, { dev }]) => dev !== true && matchesGlob(path, 'node_modules/{*,@*/*}'),
  )
  for (const [path, { optional }] of top) {
    if (optional === true && !existsSync(join(root, path))) continue
    await mkdir(dirname(join(app, path)), { recursive: true })
    await symlink(join(root, path), join(app, path))
  }
}
