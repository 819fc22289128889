import { Type } from 'typebox'
import { choice, duration, integer, section, text } from './schema-keys.ts'

/** The keys below `postgres`. */
export const postgres = section(
  {
    host: text({
      kind: 'host',
      description:
        'Host name, address, or the directory of the Unix socket. One host: Lifeboat looks after one cluster.',
      default: '/var/run/postgresql',
    }),
    port: integer({ description: 'Port of the server.', default: 5432, atLeast: '1', atMost: '65535' }),
    user: text({
      kind: 'postgresName',
      description: 'Role to connect as. It must be able to read everything that is to be backed up.',
      default: 'lifeboat',
    }),
    password: Type.Optional(
      text({
        kind: 'secret',
        description:
          'Password of the role. Better kept in a file of its own: see passwordFile. Left out together with passwordFile: peer, certificate or trust authentication.',
        absent: 'no password',
        example: '…',
      }),
    ),
    passwordFile: Type.Optional(
      text({
        kind: 'path',
        description:
          'File that holds the password and nothing else; one newline at its end is dropped. Read anew for each connection, so that a rotated password needs no restart. It must not be accessible to others: mode 0600, or 0640 when root owns it.',
        absent: 'no password',
        example: '/etc/lifeboat/postgres-password',
      }),
    ),
    databases: Type.Optional(
      Type.Array(text({ kind: 'postgresName', description: 'Name of a database.' }), {
        description: 'Databases to dump.',
        minItems: 1,
        absent: 'every database that allows connections, but templates',
        example: ['app', 'accounting'],
      }),
    ),
    binDir: Type.Optional(
      text({
        kind: 'path',
        description: 'Directory of pg_dump, pg_restore, initdb and the other programs of PostgreSQL.',
        absent: 'PATH, then the usual places of the distributions',
        example: '/usr/lib/postgresql/15/bin',
      }),
    ),
    maintenanceDatabase: text({
      kind: 'postgresName',
      description: 'Database to connect to for questions about the whole cluster.',
      default: 'postgres',
    }),
    connectTimeout: duration({
      description: 'How long to wait for a connection.',
      default: '10s',
      atLeast: '100ms',
      atMost: '10m',
    }),
    sslMode: choice(['disable', 'prefer', 'require', 'verify-ca', 'verify-full'], {
      description: "TLS, as libpq's sslmode. Not used on a Unix socket.",
      default: 'prefer',
    }),
    sslRootCert: Type.Optional(
      text({
        kind: 'path',
        description: 'Certificate authorities to trust, PEM; for sslMode verify-ca and verify-full.',
        absent: "the system's authorities",
        example: '/etc/ssl/certs/postgres-ca.pem',
      }),
    ),
  },
  { description: 'The cluster to look after.' },
)
