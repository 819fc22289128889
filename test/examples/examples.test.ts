import { spawnSync } from 'node:child_process'
import { existsSync, globSync } from 'node:fs'
import { chmod, chown, mkdir, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import t from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { fakeS3 } from '../support/fake-s3.ts'
import { startCluster } from '../support/postgres.ts'
import { scratchDirectory } from '../support/scratch.ts'
import { serve, serveTokens } from '../support/serve.ts'
import { untilAnswer } from '../support/until.ts'
import {
  type Compose,
  complaintOfUnit,
  documents,
  image,
  type Manifest,
  read,
  root,
  type ServiceSpec,
  type StatefulSetSpec,
} from './files.ts'
import { complaintsOf } from './kubernetes.ts'

const [compose] = documents<Compose>('examples/compose/compose.yaml')
if (compose === undefined) throw new Error('no compose file')
const manifests = documents<Manifest>('examples/kubernetes/lifeboat.yaml')
const monitors = documents<Manifest>('examples/kubernetes/servicemonitor.yaml')
const [scraping] = documents<{ scrape_configs: { job_name: string; static_configs: { targets: string[] }[] }[] }>(
  'examples/prometheus/prometheus.yml',
)
const unit = read('examples/systemd/lifeboat.service')
const manifestOf = (kind: string, name: string): Manifest => {
  const found = manifests.find((one) => one.kind === kind && one.metadata.name === name)
  if (found === undefined) throw new Error(`no ${kind} ${name}`)
  return found
}
const { spec: setSpec } = manifestOf('StatefulSet', 'postgres')
const set = setSpec as StatefulSetSpec
const pod = set.template.spec
const inPod = Object.fromEntries(pod.containers.map((container) => [container.name, container]))
const configs = {
  compose: read('examples/compose/lifeboat.yaml'),
  kubernetes: manifestOf('ConfigMap', 'lifeboat').data?.['lifeboat.yaml'] ?? '',
}

t.test('the page says what each is', (t) => {
  const page = read('examples/README.md')
  for (const file of globSync('examples/*/*', { cwd: root })) {
    t.match(page, file.slice('examples/'.length), file)
  }
  for (const [, target = ''] of page.matchAll(/\]\(([^)#]+)[^)]*\)/g)) {
    t.ok(existsSync(resolve(root, 'examples', target)), target)
  }
  t.end()
})

/** The environment of Lifeboat in the two: the image's own, and what is set beside it. */
const environments = {
  compose: { ...image.environment, ...compose.services.lifeboat?.environment },
  kubernetes: {
    ...image.environment,
    ...Object.fromEntries((inPod.lifeboat?.env ?? []).map(({ name, value }) => [name, value])),
  },
}

t.test('Lifeboat takes every configuration', async (t) => {
  const secrets = t.testdir({})
  for (const name of ['compose', 'kubernetes'] as const) {
    const files = [...configs[name].matchAll(/\/(?:run|etc\/lifeboat)\/secrets\/([\w-]+)/g)]
    t.equal(files.length, 3, 'a password and two keys')
    for (const [, file = ''] of files) {
      const path = join(secrets, file)
      await rm(path, { force: true })
      await writeFile(path, 'x', { mode: 0o400 })
      // As a volume of Kubernetes has it, whoever runs this.
      if (name === 'kubernetes' && process.getuid?.() === 0) {
        await chown(path, 0, Number(image.gid))
        await chmod(path, 0o440)
      }
    }
    const text = configs[name].replaceAll(/\/(?:run|etc\/lifeboat)\/secrets/g, secrets)
    const config = await loadConfig({ text, env: environments[name] })
    t.equal(config.repositories.length, 2, name)
    t.equal(config.listen.port, image.port)
    const { alertmanagers, prometheus } = config.alertDrill
    for (const { url } of [...alertmanagers, ...(prometheus === null ? [] : [prometheus])]) {
      const { hostname, port } = new URL(url)
      t.match(compose.services[hostname]?.ports, [new RegExp(`:${port}$`)], `${name}: ${url} is a service`)
    }
    const written = [...configs[name].matchAll(/(?:file:\/\/|archive: )(\/\S+)/g)].map(([, path = '']) => path)
    t.equal(written.length, 2)
    for (const path of [...written, config.stateDir]) {
      t.ok(
        image.volumes.some((volume) => `${path}/`.startsWith(`${volume}/`)),
        `${name}: ${path} is on a volume`,
      )
    }
  }
})

/** Those of the Compose specification that are used. What is misspelt would be refused by Compose. */
const topKeys = ['name', 'services', 'configs', 'secrets', 'volumes']
const serviceKeys = [
  ...['image', 'build', 'command', 'entrypoint', 'environment', 'hostname', 'init', 'shm_size', 'ports', 'volumes'],
  ...['secrets', 'configs', 'healthcheck', 'depends_on', 'restart', 'stop_signal', 'stop_grace_period'],
  ...['cap_drop', 'security_opt'],
]

t.test('the compose file', async (t) => {
  const { services, secrets, volumes } = compose
  t.same(Object.keys(compose), topKeys)
  const used = { secrets: new Set<string>(), volumes: new Set<string>(), configs: new Set<string>() }
  for (const [name, service] of Object.entries(services)) {
    t.match(service.image, /^[\w./-]+:[a-z]*\d/, `${name}: ${service.image} has a version`)
    for (const key of Object.keys(service)) t.ok(serviceKeys.includes(key), `${name}: ${key}`)
    for (const { source } of service.secrets ?? []) used.secrets.add(source)
    for (const { source } of service.configs ?? []) used.configs.add(source)
    for (const volume of service.volumes ?? []) {
      const [source = ''] = volume.split(':')
      if (source.startsWith('.'))
        t.ok(existsSync(resolve(root, 'examples/compose', source)), `${name}: ${source} exists`)
      else used.volumes.add(source)
    }
    for (const port of service.ports ?? [])
      t.match(port, /^127\.0\.0\.1:/, `${name}: ${port} is for this machine alone`)
    const before = Array.isArray(service.depends_on) ? service.depends_on : Object.keys(service.depends_on ?? {})
    for (const other of before as string[]) t.ok(other in services, `${name} waits for ${other}`)
  }
  t.same(used.secrets, new Set(Object.keys(secrets)))
  t.same(used.volumes, new Set(Object.keys(volumes)))
  t.same(used.configs, new Set(Object.keys(compose.configs)))
  const wanted = new Set([...read('examples/compose/compose.yaml').matchAll(/\$\{(\w+)/g)].map(([, name]) => name))
  for (const { environment } of Object.values(secrets)) wanted.add(environment)
  t.same(new Set([...read('examples/compose/env.example').matchAll(/^(\w+)=$/gm)].map(([, name]) => name)), wanted)

  const { lifeboat, postgres, s3 } = services
  const [, major] = /^postgres:(\d+)-/.exec(postgres?.image ?? '') ?? []
  t.equal(lifeboat?.build?.args.PG_MAJOR, major, 'the programs are of the version of the server')
  t.equal(lifeboat?.image, `lifeboat:pg${major}`)
  t.equal(resolve(root, 'examples/compose', lifeboat?.build?.context ?? ''), root)
  for (const { source, uid, mode } of lifeboat?.secrets ?? []) t.same([uid, mode], [image.uid, 0o400], source)
  const mounted = (lifeboat?.volumes ?? []).map((volume) => volume.split(':')[1] ?? '')
  t.same(mounted, [image.environment.LIFEBOAT_CONFIG, ...image.volumes])
  t.same(lifeboat?.ports, [`127.0.0.1:${image.port}:${image.port}`])
  for (const word of [
    `--shm-size ${lifeboat?.shm_size}`,
    `stop_grace_period: ${lifeboat?.stop_grace_period}`,
    '--init',
  ]) {
    t.ok(read('docs/docker.md').includes(word), `docs/docker.md says ${word}`)
  }
  t.ok((/^ {2}host: (\w+)$/m.exec(configs.compose)?.[1] ?? '') in services)
  const files = [...configs.compose.matchAll(/\/run\/secrets\/([\w-]+)/g)].map(([, name]) => name)
  t.same(new Set(files), new Set(lifeboat?.secrets?.map(({ source }) => source)))
  t.ok(s3?.command?.includes(`-s3.port=${/endpoint: http:\/\/s3:(\d+)/.exec(configs.compose)?.[1]}`))
  t.match(read('examples/compose/compose.yaml'), /-s3\.config=(\S+?)\][\s\S]*target: \1 \}/)
  t.same(JSON.parse(compose.configs['s3-identities']?.content.replace(/\$\{[^}]*\}/g, '…') ?? '').identities.length, 1)
})

t.test('Prometheus', async (t) => {
  const directory = t.testdir({})
  const rules = join(root, 'alerts/lifeboat.rules.yml')
  const config = join(directory, 'prometheus.yml')
  const text = read('examples/prometheus/prometheus.yml')
  await writeFile(config, text.replace('/etc/prometheus/lifeboat.rules.yml', rules))
  t.match(spawnSync('promtool', ['check', 'config', config], { encoding: 'utf8' }), {
    status: 0,
    stdout: 'rules found',
  })
  const [job] = scraping?.scrape_configs ?? []
  t.match(job?.job_name, 'lifeboat')
  t.same(job?.static_configs[0]?.targets, [`lifeboat:${image.port}`])
  const mounts = compose.services.prometheus?.volumes ?? []
  for (const path of ['prometheus.yml', 'lifeboat.rules.yml']) {
    t.ok(
      mounts.some((mount) => mount.includes(`:/etc/prometheus/${path}:`)),
      path,
    )
  }
  for (const [, name = ''] of text.matchAll(/'(\w+):\d+'/g)) t.ok(name in compose.services, name)
  const [datasource] = documents<{ datasources: { url: string }[] }>('grafana/provisioning/datasources/prometheus.yaml')
  t.ok(new URL(datasource?.datasources[0]?.url ?? '').hostname in compose.services)
  const [provider] = documents<{ providers: { options: { path: string } }[] }>(
    'grafana/provisioning/dashboards/lifeboat.yaml',
  )
  const path = provider?.providers[0]?.options.path
  t.ok(
    compose.services.grafana?.volumes?.some((mount) => mount.includes(`:${path}:`)),
    'the dashboards are where they are read',
  )
})

t.test('Kubernetes', async (t) => {
  const all = [...manifests, ...monitors, ...documents<Manifest>('alerts/prometheusrule.yaml')]
  t.equal(await complaintsOf(t.testdir({}), all), '')
  const wrong = { ...manifestOf('Service', 'lifeboat'), spec: { clusterIp: 'None' } }
  t.match(await complaintsOf(join(t.testdir({}), 'wrong'), [wrong]), 'clusterIp', 'a wrong field is noticed')

  const { lifeboat, postgres } = inPod
  if (lifeboat === undefined || postgres === undefined) throw new Error('two containers')
  t.equal(/:pg(\d+)$/.exec(lifeboat.image)?.[1], /:(\d+)-/.exec(postgres.image)?.[1], 'of one major version')
  t.match(lifeboat.securityContext, { runAsUser: Number(image.uid), runAsGroup: Number(image.gid) })
  t.equal(pod.securityContext.fsGroup, Number(image.gid))
  const mounted = new Map(lifeboat.volumeMounts.map(({ mountPath, name }) => [mountPath, name]))
  for (const path of [image.environment.LIFEBOAT_CONFIG ?? '', ...image.volumes]) t.ok(mounted.has(path), path)
  t.same(lifeboat.ports, [{ name: 'metrics', containerPort: image.port }])

  const claims = set.volumeClaimTemplates.map(({ metadata }) => metadata.name)
  const volumes = [...pod.volumes.map(({ name }) => name), ...claims]
  const mounts = pod.containers.flatMap((container) => container.volumeMounts.map(({ name }) => name))
  t.same(new Set(mounts), new Set(volumes), 'what is mounted is there, and nothing in vain')
  /** The files below a path, of a Secret or a ConfigMap. */
  const filesAt = (path: string, mounts = lifeboat.volumeMounts) => {
    const volume = pod.volumes.find(({ name }) => name === mounts.find(({ mountPath }) => mountPath === path)?.name)
    const source = volume?.secret
      ? manifestOf('Secret', volume.secret.secretName)
      : manifestOf('ConfigMap', volume?.configMap?.name ?? '')
    return Object.keys(source.stringData ?? source.data ?? {})
  }
  const named = [...configs.kubernetes.matchAll(/(\/etc\/lifeboat\/secrets)\/([\w-]+)/g)]
  t.equal(named.length, 3)
  for (const [, path = '', file = ''] of named) t.ok(filesAt(path).includes(file), file)
  for (const { name, value } of postgres.env ?? []) {
    const [, path = '', file = ''] = /^(\/run\/.*)\/([^/]+)$/.exec(value) ?? []
    if (name.endsWith('_FILE')) t.ok(filesAt(path, postgres.volumeMounts).includes(file), `${name} ${value}`)
  }
  t.same(filesAt('/docker-entrypoint-initdb.d', postgres.volumeMounts), ['role.sh'])
  t.equal(manifestOf('ConfigMap', 'postgres').data?.['role.sh'], read('examples/compose/role.sh'))
  t.equal(pod.volumes.find(({ name }) => name === 'role')?.configMap?.defaultMode, 0o555, 'scripts can be run')
  for (const { secret } of pod.volumes) if (secret) t.equal(secret.defaultMode, 0o440, secret.secretName)

  const labels = set.template.metadata.labels
  t.match(labels, set.selector.matchLabels)
  t.equal(set.serviceName, manifestOf('Service', 'postgres').metadata.name)
  for (const name of ['postgres', 'lifeboat']) {
    const { selector, ports } = manifestOf('Service', name).spec as ServiceSpec
    t.match(labels, selector)
    for (const { targetPort, port } of ports) {
      t.equal(
        pod.containers.flatMap(({ ports }) => [...ports]).find(({ name }) => name === targetPort)?.containerPort,
        port,
      )
    }
  }
  const monitor = monitors[0]?.spec as {
    selector: { matchLabels: object }
    endpoints: { port: string; path: string }[]
  }
  const matching = manifests.filter(
    ({ kind, metadata }) => kind === 'Service' && metadata.labels['app.kubernetes.io/name'] === 'lifeboat',
  )
  t.same(monitor.selector.matchLabels, { 'app.kubernetes.io/name': 'lifeboat' })
  t.same(
    matching.map(({ metadata }) => metadata.name),
    ['lifeboat'],
    'job="lifeboat"',
  )
  t.equal(monitor.endpoints[0]?.port, (manifestOf('Service', 'lifeboat').spec as ServiceSpec).ports[0]?.name)
  t.ok(pod.terminationGracePeriodSeconds >= 45)
  t.equal(lifeboat.readinessProbe, undefined)
})

t.test('the systemd unit', async (t) => {
  const [, command = ''] = /^ExecStart=(.+)$/m.exec(unit) ?? []
  const flags = command.split(' ').filter((word) => /^--(?!config)/.test(word))
  t.same(
    flags,
    image.entry.filter((word) => word.startsWith('--')),
    'the flags of the image',
  )
  t.match(command, `--config ${image.environment.LIFEBOAT_CONFIG}`)
  t.match(unit, `Environment=MALLOC_ARENA_MAX=${image.environment.MALLOC_ARENA_MAX}\n`)
  // docs/operations.md has the same without what shuts it in.
  const [, documented = ''] = /```ini\n([\s\S]*?)```/.exec(read('docs/operations.md')) ?? []
  for (const line of documented.split('\n')) t.ok(unit.split('\n').includes(line), line)
  // With programs and a user that are here.
  const place = t.testdir({})
  const file = join(place, 'lifeboat.service')
  const here = unit
    .replace('/opt/lifeboat/node_modules/node/bin/node', process.execPath)
    .replace('User=lifeboat', 'User=root')
    .replaceAll('/opt/lifeboat', root)
  await writeFile(file, here)
  t.equal(complaintOfUnit(file), '')
  await writeFile(join(place, 'wrong.service'), here.replace('ProtectHome=yes', 'ProtectHome=often'))
  t.match(complaintOfUnit(join(place, 'wrong.service')), 'ignoring: often')
  const exposure = spawnSync(
    'systemd-analyze',
    ['security', '--offline=true', '--no-pager', '--threshold=35', join(root, 'examples/systemd/lifeboat.service')],
    { encoding: 'utf8' },
  )
  t.equal(exposure.status, 0, exposure.stdout)
})

t.test('what the compose file starts', { timeout: 60_000 }, async (t) => {
  const directory = await scratchDirectory(t)
  const [cluster, bucket] = await Promise.all([
    startCluster(t, { major: 17, tcp: true, settings: { summarize_wal: 'on' } }),
    fakeS3(t, () => new Date()),
  ])
  const secrets = join(directory, 'secrets')
  await mkdir(secrets)
  for (const name of Object.keys(compose.secrets)) await writeFile(join(secrets, name), `of'${name}\n`, { mode: 0o600 })

  // As the image runs it: with a superuser who needs no password, and the directory of the cluster.
  const { host, port, user } = cluster.source
  const made = spawnSync(join(root, 'examples/compose/role.sh'), {
    encoding: 'utf8',
    env: {
      PATH: `${cluster.installation.directory}:${process.env.PATH}`,
      ...{ PGHOST: host, PGPORT: String(port), POSTGRES_USER: user, PGDATA: cluster.server.dataDirectory },
      ROLE_PASSWORD_FILE: join(secrets, 'lifeboat-password'),
    },
  })
  t.match(made, { status: 0, stderr: '' })
  await cluster.sql('select pg_reload_conf()')
  await cluster.createDatabase('app', 'create table notes as select generate_series(1, 100) as id')

  const places: readonly (readonly [string, string])[] = [
    ['host: postgres', `host: 127.0.0.1\n  port: ${port}`],
    ['/run/secrets', secrets],
    ['/var/backups/lifeboat', join(directory, 'backups')],
    ['/var/lib/lifeboat', join(directory, 'lifeboat')],
    ['http://s3:8333', bucket.settings.endpoint ?? ''],
  ]
  for (const [place] of places) t.ok(configs.compose.includes(place), place)
  const yaml = places.reduce((text, [place, here]) => text.replaceAll(place, here), configs.compose)
  const sidecar = await serve(directory, `${yaml}auth: ${JSON.stringify({ tokens: serveTokens })}\n`, {
    env: {
      LIFEBOAT_LISTEN: '127.0.0.1:0',
      LIFEBOAT_STATE_DIR: join(directory, 'lifeboat/state'),
      LIFEBOAT_POSTGRES_BIN_DIR: cluster.installation.directory,
    },
  })
  t.teardown(() => sidecar.end())
  const paths = [inPod.lifeboat?.startupProbe, inPod.lifeboat?.livenessProbe].map((probe) => probe?.httpGet?.path ?? '')
  for (const path of new Set(paths)) t.equal((await sidecar.request(path)).status, 200, path)
  t.same([...new Set(paths)], ['/-/healthy'])
  t.equal((await sidecar.request('/api/admin/backup', { database: 'app' })).status, 202)
  const dump = (repository: string) =>
    `lifeboat_backups{cluster_name="app",repository="${repository}",backup_type="dump"} 1`
  const wanted = [
    ...['local', 'offsite'].map(dump),
    'lifeboat_up{cluster_name="app"} 1',
    'lifeboat_repository_up{cluster_name="app",repository="local"} 1',
    'lifeboat_repository_up{cluster_name="app",repository="offsite"} 1',
    'lifeboat_wal_stream_up{cluster_name="app"} 1',
    'lifeboat_policy_rpo_seconds{cluster_name="app"} 300',
  ]
  await untilAnswer(wanted.join(', '), async () => {
    const metrics = (await (await sidecar.request('/metrics')).text()).split('\n')
    return wanted.every((line) => metrics.includes(line))
  })
  t.equal((await sidecar.request('/-/ready')).status, 200)
})
