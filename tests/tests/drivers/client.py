# A bot written in Python with SQLAlchemy over psycopg, as anybody would write it. See ../drivers.rs for what it prints.
import sys, threading
import sqlalchemy as sa

engine = sa.create_engine(sys.argv[1].replace('postgresql://', 'postgresql+psycopg://'), pool_pre_ping=True)
target = sa.Table('target', sa.MetaData(), autoload_with=engine)

def state(connection, statement, **values):
    try:
        connection.execute(sa.text(statement), values)
        return 'nothing'
    except sa.exc.DBAPIError as error:
        connection.rollback()
        return error.orig.sqlstate

with engine.connect() as connection:
    value = lambda statement, **values: connection.execute(sa.text(statement), values).scalar()
    print('simple', value('SELECT 40 + 2'))
    row = connection.execute(sa.text('SELECT CAST(:a AS int8), CAST(:b AS bool), CAST(:c AS text), CAST(:d AS text), CAST(:e AS date)'),
                             dict(a=7, b=True, c=None, d='é\'"', e='2026-11-23')).one()
    print('types', row[0], str(row[1]).lower(), str(row[2] is None).lower(), row[3], row[4])
    print('error', state(connection, 'SELECT 1 / CAST(:n AS int)', n=0))
    connection.rollback()
    with connection.begin() as transaction:
        connection.execute(target.insert(), [{'id': 99}, {'id': 99}])
        transaction.rollback()
    print('rolled back', connection.execute(sa.select(sa.func.count()).select_from(target).where(target.c.id == 99)).scalar())
    streamed = connection.execution_options(yield_per=500).execute(sa.text('SELECT n FROM generate_series(1, :n) n'), {'n': 20000})
    numbers = [row[0] for row in streamed]
    print('rows', len(numbers), sum(numbers))
    connection.rollback()
    threading.Timer(0.3, connection.connection.driver_connection.cancel).start()
    print('cancelled', state(connection, 'SELECT pg_sleep(30)'))
    if len(sys.argv) > 2:
        print('masked', value('SELECT email FROM customers WHERE id = :id', id=1))
        connection.rollback()
        print('refused', state(connection, 'DROP TABLE orders'))
    print('alive', value('SELECT 42'))
